"""Do translated images show the domain that was asked for, and what they showed before? And do they come back?

Two classifiers judge, each the export of a run (`paribus export`): one was trained to tell domains, one to tell the
content that a translation should keep, on images as they are. StarGAN's authors judge facial expressions by such a
classifier (Choi et al. 2018, arXiv 1711.09020, section 5.4). A generator that changes nothing keeps the content, and
one that always gives the same image of each domain shows the domain; so both have to be right at once. Neither
classifier is right about all images as they are, which is measured beside and bounds what can be asked for.
"""

import base64
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import matches_signature, schema
from paribus.core.capabilities import Translates
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.formatting import format_list
from paribus.core.image_grid import encode_png, make_grid, to_bytes
from paribus.core.protocols import DataSets, ModelFactory
from paribus.core.streams import uniform
from paribus.core.sums import Sums, gather_samples, metric_sums
from paribus.evaluators.accuracy import rank_targets
from paribus.evaluators.samples import choose_classes
from paribus.evaluators.some_images import check_limit, choose_evenly

_KEY = "evaluators.translation"
_SHOWN, _MAX_DOMAINS, _BLANK = "shown", 12, 255  # of the picture; white, as what lies between images


@schema
class TranslatedImages:
    """val/domain_accuracy: share of translated images that the classifier finds to be of the domain asked for;
    val/content_accuracy: to show what they showed before; val/translation_accuracy: both (fractions, 0–1). With
    `_untranslated`: the classifiers' accuracy on the images as they are. val/reconstruction_error: mean absolute
    difference, in grey levels of 255, between an image and what it becomes when it is translated and back.

    Translated images are rounded to 8 bits, as they would be kept in a file, before they are judged and go back. A
    picture shows some of them: a row an image, as it is and then in every other domain, of which twelve at most, evenly
    spaced; the place of its own is blank.

    domain_classifier, content_classifier: what tells them (paribus.models.judges.Judge, an export); null leaves out
    what needs it. content: the fact in `Batch.also` that the second one tells. targets: each image goes to each other
    domain, or to one that is drawn. seed: of those, which belong to the image. split: what is translated. limit: at
    most this many images, evenly spaced in the split; null: all. at: always, at each evaluation, or once at the end.
    batch_size: samples at a time on one rank. grid: images in the picture, evenly spaced in the split; 0: no picture,
    and there is none of a split whose size is not known.
    """

    domain_classifier: Annotated[ModelFactory, matches_signature(ModelFactory)] | None = None
    content_classifier: Annotated[ModelFactory, matches_signature(ModelFactory)] | None = None
    content: str = "content"
    targets: Literal["each", "drawn"] = "each"
    seed: Annotated[int, Field(ge=0)] = 0
    split: str = "val"
    limit: Annotated[int, Field(ge=1)] | None = None
    at: When = "always"
    batch_size: Annotated[int, Field(ge=1)] = 128
    grid: Annotated[int, Field(ge=0, le=64)] = 8

    needs: ClassVar[tuple[type, ...]] = (Translates,)

    @property
    def needed_splits(self) -> dict[str, str]:
        return {"split": self.split}

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        judged = [name for name, slot in self._classifiers.items() if slot is not None]
        both = ["translation_accuracy"] if len(judged) == 2 else []
        names = [f"{name}_accuracy{suffix}" for name in judged for suffix in ("", "_untranslated")]
        return tuple(f"{self.split}/{name}" for name in (*names, *both, "reconstruction_error"))

    @property
    def _classifiers(self) -> dict[str, ModelFactory | None]:
        return {"domain": self.domain_classifier, "content": self.content_classifier}

    def check_data(self, data: DataSets) -> None:
        """Raises ConfigError if there is one domain, or it is not known what the images show."""
        if data.spec.classes < 2:
            raise ConfigError(f"{_KEY}: found data of one class; the classes are the domains, so there have to be two")
        known = data.facts.get(self.split, ())
        if self.content_classifier is not None and self.content not in known:
            raise ConfigError(
                f"{_KEY}.content: found {self.content}; Batch.also of {self.split} has "
                f"{format_list(known) or 'nothing'} (data=domain_digits has it, a tree of yours by a column of "
                "facts.csv); content_classifier=null does without"
            )

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        """Raises ConfigError if a classifier cannot be read, or does not tell the domains, and for a limit on a split
        whose size is not known."""
        check_limit("translation", self.limit, (self.split,), context)
        for name, slot in self._classifiers.items():
            if slot is None:
                continue
            found, domains = _read_judge(slot, name, context).classes, context.spec.classes
            if name == "domain" and found != domains:
                raise ConfigError(
                    f"{_KEY}.domain_classifier: it tells {found} classes, and the data has {domains} domains; export a "
                    "run on this data set"
                )

    @torch.no_grad()
    def __call__(self, method: Translates, splits: Splits, context: EvaluationContext) -> Sums:
        judges = {
            name: _read_judge(slot, name, context) for name, slot in self._classifiers.items() if slot is not None
        }
        sums = Sums()
        for batch in choose_evenly(splits, self.split, self.batch_size, self.limit, context):
            truth = {"domain": batch.targets, "content": batch.also.get(self.content)}
            for name, judge in judges.items():
                sums += self._sum(f"{name}_accuracy_untranslated", judge.is_right(batch.inputs, truth[name]))
            for wanted in self._choose_targets(batch, context.spec.classes):
                there = _to_8_bits(method.translate(batch.inputs, wanted, batch.targets), context)
                back = method.translate(there, batch.targets, wanted)
                asked = {**truth, "domain": wanted}
                right = {name: judge.is_right(there, asked[name]) for name, judge in judges.items()}
                if len(right) == 2:
                    right["translation"] = right["domain"] & right["content"]
                for name, which in right.items():
                    sums += self._sum(f"{name}_accuracy", which)
                apart = (_to_levels(back, context) - _to_levels(batch.inputs, context)).abs()
                sums += self._sum("reconstruction_error", apart)
        return sums + self._show(method, splits, context) if self._has_picture(context) else sums

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        """The picture."""
        if not self._has_picture(context):
            return {}
        images = sums.gathered(_SHOWN)
        names = [context.names[k] if context.names else str(k) for k in self._columns(context)]
        caption = f"{len(images)} images of {self.split}, as they are, then in {', '.join(names)} (blank: their own)"
        png = encode_png(make_grid(images.flatten(0, 1), images.shape[1]))
        return {"grid": {"image": {"png": base64.b64encode(png).decode(), "caption": caption}}}

    def _has_picture(self, context: EvaluationContext) -> bool:
        return self.grid > 0 and self.split in context.sizes

    def _columns(self, context: EvaluationContext) -> list[int]:
        return choose_classes(_MAX_DOMAINS, context.spec.classes)

    def _show(self, method: Translates, splits: Splits, context: EvaluationContext) -> Sums:
        """Of each image of the picture its row, (1 + domains, h, w, channels) uint8."""
        sums = Sums()
        for batch in choose_evenly(splits, self.split, self.batch_size, self.grid, context):
            row = [to_bytes(context.to_pixels(batch.inputs))]
            for domain in self._columns(context):
                own = batch.targets == domain
                # a network for two domains has no own domain to translate to; what it gives instead is not shown
                wanted = torch.where(own, (batch.targets + 1) % context.spec.classes, domain)
                there = method.translate(batch.inputs, wanted, batch.targets)
                row.append(to_bytes(context.to_pixels(there)).masked_fill(own[:, None, None, None], _BLANK))
            sums += gather_samples(_SHOWN, batch.ids, torch.stack(row, 1))
        return sums

    def _choose_targets(self, batch: Batch, domains: int) -> Iterator[Tensor]:
        """(n,) int64 each, never an image's own domain."""
        if self.targets == "each":
            yield from ((batch.targets + step) % domains for step in range(1, domains))
            return
        drawn = uniform(self.seed, "translation.targets", 0, batch.ids, 1)[:, 0].double()
        yield (batch.targets + 1 + (drawn * (domains - 1)).long()) % domains

    def _sum(self, name: str, values: Tensor) -> Sums:
        return metric_sums(f"{self.split}/{name}", values.sum(), values.numel())


class _Judge:
    """A classifier of pixels, on images that are normalised as the data's."""

    def __init__(self, network: nn.Module, context: EvaluationContext) -> None:
        self._network, self._context = network, context
        self.classes: int = getattr(network, "classes", context.spec.classes)

    def is_right(self, inputs: Tensor, truth: Tensor) -> Tensor:
        """(n,) bool."""
        return rank_targets(self._network(self._context.to_pixels(inputs)), truth) < 1


def _read_judge(factory: ModelFactory, name: str, context: EvaluationContext) -> _Judge:
    try:
        network = factory(context.spec)
    except ConfigError as error:
        raise ConfigError(f"{_KEY}.{name}_classifier: {error}") from error
    place = context.place
    return _Judge(network.eval().requires_grad_(False).to(place.device, place.dtype), context)


def _to_8_bits(inputs: Tensor, context: EvaluationContext) -> Tensor:
    return context.to_inputs(_to_levels(inputs, context).to(inputs.dtype) / 255)


def _to_levels(inputs: Tensor, context: EvaluationContext) -> Tensor:
    """(n, c, h, w) int64, 0 to 255: whole numbers, so that their sum is exact."""
    return (255 * context.to_pixels(inputs)).round().clamp(0, 255).long()
