"""Images of a generator, to look at: a grid of the same places at each evaluation, so that one sees how they change.

It measures nothing. The grid is a PNG, which is kept in the run folder, samples/step_00001234.png, and shown by W&B,
TensorBoard and a study's report. Which images it shows depends on `seed` alone, so arms and seeds of a study show the
same noise.
"""

import base64
from typing import Annotated, Any

import torch
from pydantic import Field

from paribus.core.build import schema
from paribus.core.capabilities import Samples
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.image_grid import encode_png, make_grid, to_bytes
from paribus.core.sums import Sums, gather_samples

_IMAGES, _CLASSES = "images", "classes"


@schema
class SampleGrid:
    """A grid of rows × columns generated images; of a conditional generator a class a column, spread evenly over the
    classes where there are more of them than columns, and no more columns than classes.

    rows, columns: of the grid. seed: of the images, not the run's. at: always, or end: after the last step alone.
    batch_size: images at a time on one rank.
    """

    rows: Annotated[int, Field(ge=1, le=64)] = 8
    columns: Annotated[int, Field(ge=1, le=64)] = 8
    seed: Annotated[int, Field(ge=0)] = 0
    at: When = "always"
    batch_size: Annotated[int, Field(ge=1)] = 64

    @property
    def needs(self) -> tuple[type, ...]:
        return (Samples,)

    @property
    def keys(self) -> tuple[str, ...]:
        """No metric."""
        return ()

    @torch.no_grad()
    def __call__(self, method: Samples, splits: Splits, context: EvaluationContext) -> Sums:
        # −1: of no class
        columns = choose_classes(self.columns, context.spec.classes) if method.conditional else [-1] * self.columns
        n, place = self.rows * len(columns), context.place
        first, last = (n * r // place.world for r in (place.rank, place.rank + 1))
        sums = Sums()
        for ids in torch.arange(first, last, device=place.device).split(self.batch_size):
            classes = torch.tensor(columns, device=place.device)[ids % len(columns)]
            inputs = method.sample(ids, self.seed, classes if method.conditional else None)
            sums += gather_samples(_IMAGES, ids, to_bytes(context.to_pixels(inputs)))
            sums += gather_samples(_CLASSES, ids, classes)
        return sums

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        images, classes = (sums.gathered(name) for name in (_IMAGES, _CLASSES))
        columns = len(images) // self.rows
        caption = f"{self.rows} × {columns} images, seed {self.seed}"
        if (shown := classes[:columns].tolist())[0] >= 0:
            caption += f"; classes {', '.join(context.names[k] if context.names else str(k) for k in shown)}"
        png = base64.b64encode(encode_png(make_grid(images, columns))).decode()
        return {"grid": {"image": {"png": png, "caption": caption}}}


def choose_classes(columns: int, classes: int) -> list[int]:
    """At most so many classes, evenly spaced.

    >>> choose_classes(4, 10), choose_classes(8, 3)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(columns, classes)
    return [k * classes // count for k in range(count)]
