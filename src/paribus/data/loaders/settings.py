"""The settings of all datasets of large images: how an image becomes an input, which samples are used, who decodes."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from paribus.core.build import schema
from paribus.core.cores import count_cores
from paribus.core.protocols import DeviceContext
from paribus.data.loaders.worker_pool import PREFETCH_FACTOR
from paribus.data.ops.input_spec import Augmentation, InputSpec, Interpolation, ResizedCrop

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_Share = Annotated[float, Field(gt=0, le=1)]
_Ratio = Annotated[float, Field(gt=0)]


@schema
class ImageDataSettings:
    """For training: a box of random area and shape resized to size×size (torchvision's RandomResizedCrop), a horizontal
    flip half of the time, then `augment` by name in order; each sample `repeats` times in a row. For evaluation: the
    shorter side to size / eval_ratio, then the centre size×size crop.

    size: pixels a side of the inputs. scale: least and greatest share of the image's area. ratio: least and greatest
    width / height. interpolation: of all resizing. flip: horizontally, half of the time. repeats: copies of each sample
    in a row, each augmented anew. augment: further augmentations by name, in order. eval_ratio: share of the shorter
    side that the centre crop of evaluation keeps. mean, std: of a
    channel in units of the 0–1 range; null: ImageNet's. train_size: a stratified subset of the training set. minival:
    images held out from it for selection. on_error: whether an image that does not decode stops the run or is skipped.
    workers: processes that decode, if images are decoded in every step; auto: the cores but one. No result depends on
    it.
    """

    size: Annotated[int, Field(ge=8, le=1024)] = 128
    scale: tuple[_Share, _Share] = (0.08, 1.0)
    ratio: tuple[_Ratio, _Ratio] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"
    flip: bool = True
    repeats: Annotated[int, Field(ge=1, le=64)] = 1
    augment: Mapping[str, Augmentation] = Field(default_factory=dict)
    eval_ratio: _Share = 0.875
    mean: tuple[float, float, float] | None = None
    std: tuple[_Ratio, _Ratio, _Ratio] | None = None
    train_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    on_error: Literal["raise", "skip"] = "raise"
    workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        for key in ("scale", "ratio"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: found [{low}, {high}]; the least comes first")


_MOST_WORKERS = 32  # at some 250 images/s each, 8,000: more than a GPU trains on at 224 pixels
_BYTES_AHEAD = 4 * 2**30  # of decoded pixels that workers may hold ready, in shared memory


def choose_workers(setting: int | Literal["auto"], place: DeviceContext, item_bytes: int) -> int:
    """How many worker processes decode for this process. setting: data.workers; 0: none. item_bytes: what a worker
    makes at once, a batch or a part of one.

    auto: this process's cores but one, which is for the training itself; fewer where they are very many or what they
    make ahead would fill the memory; at least 1.
    """
    if setting != "auto":
        return setting
    cores = count_cores() if place.cores is None else place.cores
    return max(1, min(cores - 1, _MOST_WORKERS, _BYTES_AHEAD // (PREFETCH_FACTOR * item_bytes)))


def build_input_spec(settings: ImageDataSettings) -> InputSpec:
    """The InputSpec of these settings."""
    crop = ResizedCrop(
        size=settings.size, scale=settings.scale, ratio=settings.ratio, interpolation=settings.interpolation
    )
    mean, std = _IMAGENET
    return InputSpec(
        settings.mean or mean, settings.std or std, crop, settings.flip, settings.augment, settings.repeats
    )
