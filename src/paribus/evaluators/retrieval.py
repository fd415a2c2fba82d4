"""Are the true captions of an image nearest to it, and the true images of a caption?

A caption may be true of many images. Data whose samples say what their images show and what their captions state
(`Batch.also`: "objects" and "described") give the set of true matches exactly, R for a query. R-precision is the share
of true ones among the first R; mAP@R adds up precision at the places of true ones among the first R, divided by R
(Musgrave et al. 2020, arXiv 2003.08505); R@1 is whether the first is true. What was drawn together counts no more than
any other true match.

All images of a split are searched, and all its captions, the same words once. Rank is by the cosine of means, which are
of length 1: by their distance. The deviations of Gaussians have no say in it. Of equal ones the lower id comes first.
"""

from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field
from scipy import stats
from torch import Tensor

from paribus.core.build import schema
from paribus.core.capabilities import HasNetwork
from paribus.core.embeddings import EmbedsBoth
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.formatting import format_list
from paribus.core.protocols import DataSets
from paribus.core.sums import Sums, gather_samples
from paribus.evaluators.accuracy import check_splits

_KEY = "evaluators.retrieval"
_FACTS = ("tokens", "objects", "described")
_DIRECTIONS = ("image_to_text", "text_to_image")
_MEASURES = ("r1", "r_precision", "map_at_r")
_SIGMA = "sigma_ambiguity"
_QUERIES = 512  # ranked at a time


@schema
class Retrieval:
    """image_to_text_r1, image_to_text_r_precision and image_to_text_map_at_r, the same of text_to_image (fractions,
    0–1), and r_precision, the mean of both directions, on each split. Of Gaussians also sigma_ambiguity: Spearman's
    correlation, over captions, of the mean log σ with the number of images that the caption is true of.

    splits: val, minival or both. at: always, or end: after the last step alone. batch_size: samples at a time on one
    rank.
    """

    splits: Annotated[tuple[str, ...], AfterValidator(check_splits)] = ("val",)
    at: When = "always"
    batch_size: Annotated[int, Field(ge=1)] = 512

    @property
    def needs(self) -> tuple[type, ...]:
        return (HasNetwork,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        names = [f"{direction}_{measure}" for direction in _DIRECTIONS for measure in _MEASURES]
        return tuple(f"{split}/{name}" for split in self.splits for name in (*names, "r_precision", _SIGMA))

    def check_data(self, data: DataSets) -> None:
        """Raises ConfigError if it is not known which captions are true of which images."""
        for split in self.splits:
            known = data.facts.get(split, ())
            if missing := [fact for fact in _FACTS if fact not in known]:
                raise ConfigError(
                    f"{_KEY}.splits: found {split}, whose samples have no {format_list(missing)} (Batch.also has "
                    f"{format_list(known) or 'nothing'}); data=shape_captions has them, and evaluators.retrieval=null "
                    "leaves the evaluator out"
                )

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        """Raises ConfigError if the network does not embed images and captions."""
        if not isinstance(method.eval_model, EmbedsBoth):
            raise ConfigError(
                f"{_KEY}: {type(method.eval_model).__name__} does not embed images and captions (embed_images, "
                "embed_texts); choose model=two_encoders"
            )

    @torch.no_grad()
    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
        sums = Sums()
        for split in self.splits:
            for batch in splits[split](self.batch_size):
                images = method.eval_model.embed_images(batch.inputs)
                texts = method.eval_model.embed_texts(batch.also["tokens"])
                values = {"images": images.mean.double(), "texts": texts.mean.double()}
                if texts.log_sigma is not None:
                    values["sigma"] = texts.log_sigma.double().mean(1)
                values |= {fact: batch.also[fact] for fact in _FACTS}
                for name, value in values.items():
                    sums += gather_samples(f"{split}/{name}", batch.ids, value)
        return sums

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        """Raises RunFailed if an embedding is NaN."""
        found: dict[str, float] = {}
        for split in self.splits:
            found |= {f"{split}/{name}": value for name, value in measure_split(sums, split).items()}
        return found


def measure_split(sums: Sums, split: str) -> dict[str, float]:
    """The metrics of one split, from its gathered samples; on the CPU, where all of it is deterministic."""

    def gathered(name: str) -> Tensor:
        return sums.gathered(f"{split}/{name}").cpu()

    images, texts = gathered("images"), gathered("texts")
    if bool(images.isnan().any() | texts.isnan().any()):
        raise RunFailed(f"the network's embeddings of {split} are NaN, which are near nothing")
    which = find_first_of_equal_rows(gathered("tokens"))
    true = find_true_pairs(gathered("objects"), gathered("described")[which])
    cosines = images @ texts[which].T
    found: dict[str, float] = {}
    for direction, scores, relevant in zip(_DIRECTIONS, (cosines, cosines.T), (true, true.T), strict=True):
        means = rank_matches(scores, relevant).tolist()
        found |= {f"{direction}_{name}": value for name, value in zip(_MEASURES, means, strict=True)}
    found["r_precision"] = sum(found[f"{direction}_r_precision"] for direction in _DIRECTIONS) / 2
    if f"{split}/sigma" in sums.samples:
        correlation = correlate_ranks(gathered("sigma")[which], true.sum(0))
        found |= {} if correlation is None else {_SIGMA: correlation}
    return found


def find_true_pairs(objects: Tensor, described: Tensor) -> Tensor:
    """(n, m) bool: whether caption j is true of image i: its two descriptions hold of one object each, in this order or
    the other.

    objects: (n, 2, a) int64, the attributes of two objects. described: (m, 2, a), −1 for what is not said.
    """
    fits = ((described[None, :, :, None] == objects[:, None, None]) | (described[None, :, :, None] < 0)).all(-1)
    # fits: (n, m, 2, 2), of description and object
    return (fits[..., 0, 0] & fits[..., 1, 1]) | (fits[..., 0, 1] & fits[..., 1, 0])


def find_first_of_equal_rows(rows: Tensor) -> Tensor:
    """The places of rows that no earlier row is equal to, in order. rows: (n, k) int64."""
    _, group = rows.unique(dim=0, return_inverse=True)
    places = torch.arange(len(rows), device=rows.device)
    first = torch.full((len(rows),), len(rows), device=rows.device).scatter_reduce_(0, group, places, "amin")
    return places[first[group] == places]


def rank_matches(scores: Tensor, relevant: Tensor) -> Tensor:
    """(3,) float64: R@1, R-precision and mAP@R, means over the queries that have a true match.

    scores, relevant: (q, k), a row for each query.
    """
    parts: list[Tensor] = []
    for score, is_true in zip(scores.split(_QUERIES), relevant.split(_QUERIES), strict=True):
        order = score.sort(dim=1, descending=True, stable=True).indices
        hits = is_true.gather(1, order).double()
        place = torch.arange(1, hits.shape[1] + 1, device=hits.device)
        count = is_true.sum(1, keepdim=True)
        hits_in_r = hits * (place <= count)
        precision = hits_in_r.cumsum(1) / place
        each = torch.stack((hits[:, 0], hits_in_r.sum(1) / count[:, 0], (precision * hits_in_r).sum(1) / count[:, 0]))
        parts.append(each[:, count[:, 0] > 0])
    return torch.cat(parts, 1).mean(1)


def correlate_ranks(one: Tensor, other: Tensor) -> float | None:
    """Spearman's correlation of (n,) values, ties at their mean rank; None where either is the same everywhere."""
    a, b = (x.double().cpu().numpy() for x in (one, other))
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return None
    ranks = (torch.from_numpy(stats.rankdata(x)) for x in (a, b))
    x, y = (r - r.mean() for r in ranks)
    return float((x * y).sum() / (x.square().sum() * y.square().sum()).sqrt())
