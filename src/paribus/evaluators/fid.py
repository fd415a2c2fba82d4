"""How far are generated images from real ones? Fréchet distance, KID, precision and recall on a network's features.

What the numbers are on is a part of their meaning: `features` names the network, and each result is reported with it.
Only with Inception's weights is `fid` what papers call FID. The formulas are in distances.py.

Both sets are rounded to 8 bits first. Real images were stored so; what a generator gives in between is seen by the
features' network, which could tell the two apart by that alone, and would be gone from a file of the image. So the
images that are measured are those that `paribus sample` writes.
"""

import functools
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import matches_signature, schema
from paribus.core.capabilities import Samples
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.features import FeatureFactory, to_8_bits
from paribus.core.formatting import format_count
from paribus.core.sums import Sums, gather_samples
from paribus.evaluators.distances import frechet_distance, kernel_distance, precision_and_recall

_KEY = "evaluators.fid"
_REAL, _GENERATED = "real", "generated"
_Share = list[tuple[Tensor, Tensor]]  # ids and features of each batch


class _Opened(NamedTuple):
    label: str
    network: nn.Module


@schema
class Fid:
    """val/fid (lower is better), val/kid (the same), val/precision and val/recall (shares, 0 to 1, higher is better) of
    generated images against those of `split`, on the features of a network.

    features: of which network; paribus.models.features.ClassifierFeatures or InceptionFeatures. split: the real images.
    images: how many are generated, a million at most, as the features of all are kept; null: as many as the split has.
    neighbours: k of precision and recall. seed: of the generated images, not the run's. at: always, or end: after the
    last step alone. batch_size: images at a time on one rank.
    """

    features: Annotated[FeatureFactory, matches_signature(FeatureFactory)]
    split: str = "val"
    images: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    neighbours: Annotated[int, Field(ge=1)] = 3
    seed: Annotated[int, Field(ge=0)] = 0
    at: When = "always"
    batch_size: Annotated[int, Field(ge=1)] = 256

    @property
    def needs(self) -> tuple[type, ...]:
        return (Samples,)

    @property
    def needed_splits(self) -> dict[str, str]:
        return {"split": self.split}

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        return tuple(f"{self.split}/{name}" for name in ("fid", "kid", "precision", "recall"))

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        """Makes the features' network, so that what is wrong with it is known before training. Raises ConfigError."""
        count = self._count(context)
        for key, n in (("images", count), ("split", context.sizes.get(self.split, count))):
            if n <= self.neighbours:
                raise ConfigError(
                    f"{_KEY}.{key}: found {format_count(n, 'image')}; the nearest {self.neighbours} others of each are "
                    f"asked for, so there should be more than {self.neighbours}"
                )
        self._open(context)

    @torch.no_grad()
    def __call__(self, method: Samples, splits: Splits, context: EvaluationContext) -> Sums:
        extract = self._open(context).network
        key = (self.split, context.spec, context.place, context.mean, context.std, context.sizes.get(self.split))
        if key not in self._real:
            self._real[key] = [
                (b.ids, _extract(extract, b.inputs, context)) for b in splits[self.split](self.batch_size)
            ]
        sums = Sums()
        for name, share in ((_REAL, self._real[key]), (_GENERATED, self._generate(method, extract, context))):
            for ids, features in share:
                sums += gather_samples(name, ids, features)
        return sums

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        """Raises RunFailed if a feature is NaN or infinite."""
        real, generated = (sums.gathered(name) for name in (_REAL, _GENERATED))
        for name, features in ((_REAL, real), (_GENERATED, generated)):
            if not bool(features.isfinite().all()):
                raise RunFailed(f"{_KEY}: features of {name} images are not finite ({self._open(context).label})")
        found = precision_and_recall(real, generated, self.neighbours)
        values = (frechet_distance(real, generated), kernel_distance(real, generated), found.precision, found.recall)
        return dict(zip(self.keys, values, strict=True))

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        real, generated = (len(sums.gathered(name)) for name in (_REAL, _GENERATED))
        said = (
            f"FID, KID, precision and recall are on features of {self._open(context).label}: {generated:,} generated "
            f"images against {real:,} of {self.split}. They compare with numbers on the same features and of as many "
            "images."
        )
        return {"features": {"text": {"text": said}}}

    def _count(self, context: EvaluationContext) -> int:
        """Of generated images. Raises ConfigError."""
        if self.images is None and self.split not in context.sizes:
            raise ConfigError(f"{_KEY}.images: how many {self.split} has is not known; give a number of images")
        return context.sizes[self.split] if self.images is None else self.images

    def _generate(
        self, method: Samples, extract: nn.Module, context: EvaluationContext
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's share. An empty one is an empty batch: ranks gather the same names."""
        n, place = self._count(context), context.place
        first, last = (n * r // place.world for r in (place.rank, place.rank + 1))
        for ids in torch.arange(first, last, device=place.device).split(self.batch_size):
            yield ids, _extract(extract, method.sample(ids, self.seed), context)

    def _open(self, context: EvaluationContext) -> _Opened:
        """Raises ConfigError."""
        place = context.place
        key = (context.spec, place)
        if key not in self._networks:
            try:
                network, label = self.features(context.spec), self.features.describe()
            except ConfigError as error:
                raise ConfigError(f"{_KEY}.features: {error}") from error
            network = network.to(place.device).to(memory_format=place.memory_format)  # pyright: ignore[reportCallIssue]
            self._networks[key] = _Opened(label, network.eval().requires_grad_(False))
        return self._networks[key]

    @functools.cached_property
    def _networks(self) -> dict[tuple[Any, ...], _Opened]:
        """The features' network, made once a run: by all that it depends on."""
        return {}

    @functools.cached_property
    def _real(self) -> dict[tuple[Any, ...], _Share]:
        """Features of this rank's real images, taken once a run and kept on the device, 4 bytes a feature and image: an
        object serves one run, whose data do not change. By what else they depend on."""
        return {}


def _extract(network: nn.Module, inputs: Tensor, context: EvaluationContext) -> Tensor:
    """(n, d) float32 of normalised inputs. The features' network has its own precision, whatever the run's."""
    pixels = to_8_bits(context.to_pixels(inputs.float()))
    return network(pixels.to(memory_format=context.place.memory_format)).float()
