"""ReLabel: each crop of a training image has the label that a teacher's label map gives for that part of the image.

Yun, Oh, Heo, Han, Choe & Chun, "Re-labeling ImageNet: from Single to Multi-Labels, from Global to Localized Labels",
CVPR 2021, arXiv 2101.05022, section 3.

    y = softmax(RoIAlign(L, b))        L ∈ ℝ^{K×h×w}

L are the logits of the teacher's classifier at each cell of its last feature map, b is the crop that was drawn, and
RoIAlign with an output of 1×1 is the mean over b of L interpolated between the centres of its cells. Made once before
training by `paribus data label-map`, with the k greatest logits of a cell.

What it changes   the targets of a training batch; nothing else.
Hyperparameters   where = local, the paper's, and two controls: global takes the mean over the whole image whatever the
                  crop, a soft label of the teacher; elsewhere takes the label of a part of the same image of the crop's
                  size at another, random place, which is as sharp and lacks the place alone. k = 5 (paribus data
                  label-map --top 5).
As the authors    on ImageNet 300 epochs of 1024 images, SGD with Nesterov momentum, rate 0.1, decay 1e-4, cosine after
                  5 epochs of warm-up (docs/label_maps.md has the command). With CutMix the pooled labels are mixed by
                  λ: technique=[relabel,cutmix]. A flip moves no mean, so it needs no correction.
Deviations        unstored = rest: the classes that a cell does not store share the probability that the teacher left
                  for all of them together there. In the authors' code each counts as the logit 0 (unstored = zero),
                  which takes most of the probability where the stored logits are small: with 1,000 classes and one
                  logit of 5, the class keeps .13. Boxes are (x1, y1, x2, y2), as RoIAlign reads them; the authors' code
                  hands it (top, left, bottom, right), which is right for maps that are stored transposed. A crop that
                  reaches into padding is pooled over its part inside the image. Batches of one image work. CutMix is on
                  until the end, where the authors switch it off for the last 5 epochs; their gain of CutMix comes with
                  another optimizer (AdamP). The authors' teacher, EfficientNet-L2 trained on further images at 475
                  pixels, is not part of this; teacher and maps count as cost.
Cost              one run of a teacher, once; one pass of it over the training images, once; per step a gather of n maps
                  and n · K · h · w products, without a wait for the device. The maps lie on the device: 34 bytes a cell
                  with k = 5, 2.1 GB for ImageNet with 7×7 cells.
Good to know      Training loss is measured against soft labels of another kind in each arm, so arms are compared by
                  `val`. What a teacher does not see locally, the student is told wrongly with the same confidence.
                  3×3 convolutions of stride 2 centre a cell up to half a cell above and to the left of where RoIAlign
                  takes it to be. Digit tiles show it (experiments/relabel_tiles): of the tiles at the top left 96 %
                  have their digit as the label's greatest, at the bottom right 87 %; with every crop moved by three
                  eighths of a cell, which is what their teacher is off, it is 94 and 92 %. The softmax is of mean
                  logits: of several objects in a crop the one that the teacher is surest of takes most, and what it
                  says of the background counts as much as each of them. There the label of the whole image was worse
                  than the plain label.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from paribus.core.batch import COPY_OFFSET, Batch
from paribus.core.build import schema
from paribus.core.content import Checksum, check_checksum
from paribus.core.errors import ConfigError
from paribus.core.label_maps import AboutMaps, LabelMaps, densify, hash_maps, keep_top, read_maps, to_bytes
from paribus.core.progress import Progress
from paribus.core.protocols import DataSets, DeviceContext
from paribus.core.streams import stream, uniform

_KEY = "transforms.relabel.maps"
Where = Literal["local", "global", "elsewhere"]


def axis_weights(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """How much each cell of an axis counts in the mean over an interval: (n, cells), rows of sum 1.

    low, high: (n,) floats, ends of the interval as shares of the axis, cut off at 0 and 1. As RoIAlign has it: cell j
    has its centre at (j + ½) / cells; an interval of less than one cell is widened to one, from its low end on; the
    mean is over as many evenly spaced points as the interval has cells, rounded up, each interpolated between the two
    centres beside it.
    """
    low, high = low.clamp(0, 1), high.clamp(0, 1)
    start, length = low * cells - 0.5, ((high - low) * cells).clamp(min=1.0)
    points = length.ceil()
    k = torch.arange(cells + 1, device=low.device)  # one more, should rounding make an interval longer than the axis
    at = (start[:, None] + (k + 0.5) * (length / points)[:, None]).clamp(0, cells - 1)
    near = (1 - (at[:, :, None] - torch.arange(cells, device=low.device)).abs()).clamp(min=0)
    return (near * (k < points[:, None])[:, :, None]).sum(1) / points[:, None]


def pool(dense: Tensor, crops: Tensor) -> Tensor:
    """The mean of each map over its crop: (n, classes, h, w) and (n, 4) x1, y1, x2, y2 as shares of width and height to
    (n, classes). A product and a sum, and no matrix product, which tf32 would round."""
    x1, y1, x2, y2 = crops.unbind(1)
    down, across = axis_weights(y1, y2, dense.shape[2]), axis_weights(x1, x2, dense.shape[3])
    return (dense * (down[:, :, None] * across[:, None, :])[:, None]).sum((2, 3))


def move(crops: Tensor, drawn: Tensor) -> Tensor:
    """(n, 4) crops to boxes of the size of their parts inside the image, anywhere in it. drawn: (n, 2) in [0, 1),
    across and down."""
    inside = crops.clamp(0, 1)
    size = inside[:, 2:] - inside[:, :2]
    corner = drawn.to(crops.dtype) * (1 - size)
    return torch.cat((corner, corner + size), 1)


@schema
class ReLabel:
    """maps: a file of `paribus data label-map` for this training set. maps_sha256: what it is known by, filled in when
    the recipe is composed. where: whether the label is that of the crop (local), of the whole image (global), or of a
    part of it of the crop's size at a random place (elsewhere). unstored: what the
    classes that a cell does not store count as; rest: together the probability that the teacher left for them; zero:
    the logit 0 each."""

    maps: str
    maps_sha256: Checksum = None
    where: Where = "local"
    unstored: Literal["rest", "zero"] = "rest"

    @property
    def reads_crop(self) -> bool:
        return self.where != "global"

    @property
    def replaces_targets(self) -> bool:
        return True

    def hash_maps(self, path: Path) -> str:
        """Raises OSError where there is no file, ConfigError for one that is no label map."""
        path.stat()
        return hash_maps(read_maps(path))

    def for_data(self, data: DataSets, place: DeviceContext) -> "MapLabels":
        """Raises ConfigError unless the maps are of these training samples."""
        path = Path(self.maps).expanduser()
        try:
            maps = read_maps(path)
            check_checksum(path, hash_maps(maps), self.maps_sha256)
        except ConfigError as error:
            raise ConfigError(f"{_KEY}: {error}") from error
        check_fit(maps, data, str(path))
        rows = torch.full((int(maps.ids.max()) + 1,), -1)
        rows[maps.ids] = torch.arange(len(maps.ids))
        rest = None if self.unstored == "zero" else maps.rest
        fill = 0.0 if rest is None else rest.to(place.device, place.dtype)
        there = rows.to(place.device), maps.values.to(place.device, place.dtype), maps.indices.to(place.device)
        return MapLabels(*there, fill, data.spec.classes, self.where)

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        raise ValueError("ReLabel: for_data(data, place) makes the transform that has its maps")


@dataclass(frozen=True)
class MapLabels:
    """ReLabel with its maps on the device. rows: (highest id + 1,) int64, the row of each sample's map. values,
    indices: (n, k, h, w). fill: of unstored classes, (n, h, w) or a number."""

    rows: Tensor
    values: Tensor
    indices: Tensor
    fill: Tensor | float
    classes: int
    where: Where = "local"

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        return batch.apply(lambda part: replace(part, targets=self.label(part, at)))

    def label(self, part: Batch, at: Progress) -> Tensor:
        """(n, classes) weights, in the inputs' type."""
        rows = self.rows[part.ids % COPY_OFFSET]
        fill = self.fill[rows] if isinstance(self.fill, Tensor) else self.fill
        dense = densify(self.values[rows], self.indices[rows], fill, self.classes)
        if self.where == "global":
            return dense.mean((2, 3)).softmax(1).to(part.inputs.dtype)
        crops = part.also["crop"].to(dense.dtype)
        if self.where == "elsewhere":
            crops = move(crops, uniform(at.seed, "relabel.elsewhere", at.epoch, part.ids, 2))
        logits = pool(dense, crops)
        return logits.softmax(1).to(part.inputs.dtype)


def check_fit(maps: LabelMaps, data: DataSets, path: str) -> None:
    """Raise ConfigError unless the maps are of these classes and training samples."""
    about = maps.about
    if about.classes != data.spec.classes or (about.class_ids and data.class_ids and about.class_ids != data.class_ids):
        raise ConfigError(
            f"{_KEY}: {path} is of {about.classes} classes, {', '.join(about.class_ids[:3]) or 'without names'}, …; "
            f"the data has {data.spec.classes}, {', '.join(data.class_ids[:3]) or 'without names'}, …"
        )
    if about.data != data.checksum:
        raise ConfigError(
            f"{_KEY}: {path} is of other training samples (their checksum is {about.data[:12]}, the data's "
            f"{data.checksum[:12]}); paribus data label-map makes one of these, with the same data.KEY=VALUE"
        )


@schema
class ExampleMaps:
    """Label maps for trying ReLabel out where there is no teacher: made of the labels themselves.

    strength: the logit of the image's own class in each cell, above noise of standard deviation 1. cells: down and
    across. top: classes that a cell stores.
    """

    strength: float = 6.0
    cells: int = 4
    top: int = 3

    def __call__(self, data: DataSets) -> bytes:
        assert data.whole is not None
        batches = list(data.whole(512, None))
        ids, targets = (torch.cat([getattr(b, name) for b in batches]).cpu() for name in ("ids", "targets"))
        classes, shape = data.spec.classes, (len(ids), data.spec.classes, self.cells, self.cells)
        dense = torch.randn(shape, generator=stream(0, "relabel.example"))
        dense[torch.arange(len(ids)), targets] += self.strength
        size = (data.spec.height, data.spec.width)
        about = AboutMaps(data.checksum, classes, data.class_ids, "no teacher: the labels themselves", "", size)
        return to_bytes(LabelMaps(ids, *keep_top(dense, min(self.top, classes)), about))
