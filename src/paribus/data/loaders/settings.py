"""The settings of all datasets of large images: how an image becomes an input, which samples are used, who decodes."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from paribus.core.build import schema
from paribus.data.ops.input_spec import Augmentation, InputSpec, Interpolation, ResizedCrop

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_Share = Annotated[float, Field(gt=0, le=1)]
_Ratio = Annotated[float, Field(gt=0)]


@schema
class ImageDataSettings:
    """For training: a box of random area and shape resized to size×size (torchvision's RandomResizedCrop), a horizontal
    flip half of the time, then `augment` by name in order; each sample `repeats` times in a row. For evaluation: the
    shorter side to size / eval_ratio, then the centre size×size crop.

    scale: least and greatest share of the image's area. ratio: least and greatest width / height. mean, std: of a
    channel in units of the 0–1 range; None: ImageNet's. train_size: a stratified subset of the training set. minival:
    images held out from it for selection. on_error: whether an image that does not decode stops the run or is skipped.
    workers: processes that decode, if images are decoded in every step; no result depends on it.
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
    workers: Annotated[int, Field(ge=0, le=256)] = 2

    def __post_init__(self) -> None:
        for key in ("scale", "ratio"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: found [{low}, {high}]; the least comes first")


def build_input_spec(settings: ImageDataSettings) -> InputSpec:
    """The InputSpec of these settings."""
    crop = ResizedCrop(
        size=settings.size, scale=settings.scale, ratio=settings.ratio, interpolation=settings.interpolation
    )
    mean, std = _IMAGENET
    return InputSpec(
        settings.mean or mean, settings.std or std, crop, settings.flip, settings.augment, settings.repeats
    )
