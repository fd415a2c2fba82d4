"""Does a network look at the object's pixels? Average precision of class activation maps against exact masks.

Pixels are ranked by the map, and those of the mask are what should come first. `val/pixel_ap` ranks all pixels of all
images together, after each map was brought to 0–1: PxAP of Choe et al. (CVPR 2020, arXiv 2001.07437). `val/image_ap`
ranks the pixels of each image by themselves and takes the mean, so that no normalisation has a say in it.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from paribus.core.build import schema
from paribus.core.capabilities import HasNetwork
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.formatting import format_list
from paribus.core.protocols import DataSets
from paribus.core.sums import Sums, gather_samples
from paribus.evaluators.maps import Of, check_maps, make_maps

Array = np.ndarray[Any, Any]
_KEY = "evaluators.pixel_ap"


def average_precision(scores: Array, is_object: Array) -> float:
    """Mean over the object's pixels of the precision among all pixels with at least their score; NaN without any.

    scores, is_object: (n,) float and bool. Pixels of equal score count together, so their order has no say.
    """
    if not is_object.any():
        return float("nan")
    order = np.argsort(-scores)
    ranked = scores[order]
    hits = np.cumsum(is_object[order], dtype=np.int64)
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each group of equal scores
    gained = np.diff(hits[last], prepend=0)
    return float((gained * (hits[last] / (last + 1))).sum() / hits[-1])


@schema
class PixelAP:
    """val/pixel_ap: average precision of all pixels of a split, each map from its least to its greatest value, 0 to 1.
    val/image_ap: the mean over images of each one's own. Data whose samples have a mask.

    of: the class whose map is taken, the predicted or the true one. split: what is reported. at: always, at each
    evaluation, or once at the end. batch_size: samples at a time on one rank. Images without a pixel of an object have
    no image_ap, and count in pixel_ap.
    """

    of: Of = "predicted"
    split: str = "val"
    at: When = "end"
    batch_size: Annotated[int, Field(ge=1)] = 128

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        return (f"{self.split}/pixel_ap", f"{self.split}/image_ap")

    @property
    def needs(self) -> tuple[type, ...]:
        return (HasNetwork,)

    @property
    def needed_splits(self) -> dict[str, str]:
        return {"split": self.split}

    def check_data(self, data: DataSets) -> None:
        """Raises ConfigError if the split has no masks."""
        if "mask" not in (facts := data.facts.get(self.split, ())):
            raise ConfigError(
                f"{_KEY}.split: found {self.split}, whose samples have no mask (Batch.also has "
                f"{format_list(facts) or 'nothing'}); data=cluttered_mnist has them; {_KEY}=null leaves the evaluator "
                "out"
            )

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        """Raises ConfigError if no map can be made of the network."""
        check_maps(method, context, _KEY)

    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
        sums = Sums()
        for batch in splits[self.split](self.batch_size):
            maps = make_maps(method.eval_model, batch, self.of).maps
            sums += gather_samples("maps", batch.ids, maps)
            sums += gather_samples("masks", batch.ids, batch.also["mask"])
        return sums

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        """Raises RunFailed if a map has a NaN, which no order can rank."""
        maps, masks = (sums.gathered(name).flatten(1).cpu().numpy() for name in ("maps", "masks"))
        if np.isnan(maps).any():
            raise RunFailed(f"the maps of {self.split} are NaN, by which no pixel comes before another")
        if not masks.any():
            return {}
        each = [average_precision(m, there) for m, there in zip(maps, masks, strict=True)]
        values = average_precision(maps.ravel(), masks.ravel()), float(np.nanmean(each))
        return dict(zip(self.keys, values, strict=True))
