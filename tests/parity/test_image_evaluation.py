"""What evaluation sees of an image, against torchvision's Resize and CenterCrop on the same Pillow image."""

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.image_trees import picture
from paribus.data.images import build_center_crop
from paribus.data.loaders.decode_batch import resize_center_crop


def torchvisions(
    image: object, size: int, ratio: float, interpolation: str
) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    steps = [Resize(round(size / ratio), InterpolationMode(interpolation), antialias=True), CenterCrop(size)]
    return np.asarray(Compose(steps)(image))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(9, 120),
    width=st.integers(9, 120),
    size=st.integers(8, 64),
    ratio=st.sampled_from([0.875, 1.0, 0.95, 0.5]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_the_pixels_are_torchvisions(
    height: int, width: int, size: int, ratio: float, interpolation: Literal["bilinear", "bicubic"]
) -> None:
    image = picture("evaluation", height, width)
    ours, theirs = (
        resize_center_crop(image, size, ratio, interpolation),
        torchvisions(image, size, ratio, interpolation),
    )
    assert np.array_equal(ours, theirs)
    if height == width:
        square = torch.from_numpy(np.array(image))[None]
        assert torch.equal(build_center_crop(size, ratio, interpolation)(square)[0], torch.from_numpy(np.array(theirs)))


@pytest.mark.parametrize("control", ["filter", "ratio", "margin"])
def test_negative_control_another_rule_is_noticed(control: str) -> None:
    image = picture("evaluation", 75, 60)
    theirs = torchvisions(image, 31, 0.875, "bilinear")
    ours = resize_center_crop(
        image, 31, 0.9 if control == "ratio" else 0.875, "bicubic" if control == "filter" else "bilinear"
    )
    if control == "margin":
        ours = np.roll(ours, 1, axis=0)
    assert not np.array_equal(ours, theirs)
