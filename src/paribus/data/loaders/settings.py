"""The settings of all datasets of large images: how an image becomes an input, which samples are used, who decodes."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from paribus.core.build import schema
from paribus.core.cores import count_cores
from paribus.core.formatting import format_count
from paribus.core.protocols import DeviceContext
from paribus.data.loaders.epoch_order import Sampling
from paribus.data.loaders.preprocessing import DecodeWhole, FilePreprocessing
from paribus.data.loaders.worker_pool import PREFETCH_FACTOR
from paribus.data.ops.input_spec import Augmentation, InputSpec, Interpolation, ResizedCrop

# mean and std of a channel by the number of channels; grey has the average of the three, alpha stays 0-1
_IMAGENET = {
    3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    1: ((0.449,), (0.226,)),
    4: ((0.485, 0.456, 0.406, 0.0), (0.229, 0.224, 0.225, 1.0)),
}
_Share = Annotated[float, Field(gt=0, le=1)]
_Ratio = Annotated[float, Field(gt=0)]


@schema
class ImageDataSettings:
    """For training: a box of random area and shape resized to size×size (torchvision's RandomResizedCrop), a horizontal
    flip half of the time, then `augment` by name in order; each sample `repeats` times in a row. For evaluation: the
    shorter side to size / eval_ratio, then the centre size×size crop.

    channels: 3, RGB; 1, grey; 4, RGB and alpha (data/trees/decoding.py has the rules). size: pixels a side of the
    inputs. scale: least and greatest share of the image's area. ratio: least and greatest width / height.
    interpolation: of all resizing. flip: horizontally, half of the time. repeats: copies of each sample in a row, each
    augmented anew. augment: further augmentations by name, in order. eval_ratio: share of the shorter side that the
    centre crop of evaluation keeps. mean, std: a number for each channel in units of the 0–1 range; null: ImageNet's,
    of which grey is the average, and alpha stays as it is. sampling: each sample once an epoch, or each class equally
    often (loaders/epoch_order.py). train_size: a stratified subset of the training set. minival: images held out from
    it for selection. on_error: whether an image that does not decode stops the run or is skipped. workers: processes
    that decode, if images are decoded in every step; auto: the cores but one. No result depends on it.
    """

    size: Annotated[int, Field(ge=8, le=1024)] = 128
    channels: Literal[1, 3, 4] = 3
    scale: tuple[_Share, _Share] = (0.08, 1.0)
    ratio: tuple[_Ratio, _Ratio] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"
    flip: bool = True
    repeats: Annotated[int, Field(ge=1, le=64)] = 1
    sampling: Sampling = "shuffle"
    augment: Mapping[str, Augmentation] = Field(default_factory=dict)
    eval_ratio: _Share = 0.875
    mean: tuple[float, ...] | None = None
    std: tuple[_Ratio, ...] | None = None
    train_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    on_error: Literal["raise", "skip"] = "raise"
    workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        for key in ("scale", "ratio"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: found [{low}, {high}]; the least comes first")
        for key in ("mean", "std"):
            if (given := getattr(self, key)) is not None and len(given) != self.channels:
                raise ValueError(
                    f"{key}: found {format_count(len(given), 'number')}; channels={self.channels} needs one for each "
                    "channel"
                )

    def file_preprocessing(self) -> FilePreprocessing:
        """What evaluation makes of an image file that is decoded in every step."""
        decode = DecodeWhole(self.size, self.eval_ratio, self.interpolation, self.channels)
        spec = build_input_spec(self)
        return FilePreprocessing(decode, self.size, self.size, self.channels, spec, workers=self.workers)


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
    mean, std = _IMAGENET[settings.channels]
    return InputSpec(
        settings.mean or mean,
        settings.std or std,
        crop,
        settings.flip,
        settings.augment,
        settings.repeats,
        settings.sampling == "balanced",
    )
