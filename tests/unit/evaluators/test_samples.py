"""Grids of generated images: which image stands where, at any batch size, over any number of processes."""

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.evaluations import plain_context
from helpers.generating import NoisyClasses
from helpers.pretended_ranks import on_ranks
from paribus.core.image_grid import GAP_PX, encode_png, make_grid, to_bytes
from paribus.evaluators.samples import SampleGrid, choose_classes

IDS = torch.arange(6)
SPLIT = (torch.zeros(6, 3, 8, 8), IDS, IDS)
CONTEXT = replace(plain_context(10, side=8), names=tuple("abcdefghij"))


def draw(evaluator: SampleGrid, method: Any, world: int = 1) -> dict[str, Any]:
    sums = on_ranks(evaluator, method, SPLIT, CONTEXT, world)
    return evaluator.details(sums, CONTEXT)["grid"]["image"]


def read(png: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def cell(picture: np.ndarray[Any, Any], row: int, column: int, side: int = 8) -> np.ndarray[Any, Any]:
    top, left = (k * (side + GAP_PX) + GAP_PX for k in (row, column))
    return picture[top : top + side, left : left + side]


def expected(method: NoisyClasses, ids: list[int], classes: list[int] | None = None) -> np.ndarray[Any, Any]:
    wanted = None if classes is None else torch.tensor(classes)
    return to_bytes(method.sample(torch.tensor(ids), 5, wanted)).numpy()


def test_places_are_ids_row_by_row() -> None:
    found = draw(SampleGrid(rows=2, columns=3, seed=5), NoisyClasses())
    picture = read(found["png"])
    assert picture.shape == (2 * 8 + 3 * GAP_PX, 3 * 8 + 4 * GAP_PX, 3)
    for k, image in enumerate(expected(NoisyClasses(), [0, 1, 2, 3, 4, 5])):
        assert (cell(picture, k // 3, k % 3) == image).all()
    assert (picture[:GAP_PX] == 255).all()
    assert found["caption"] == "2 × 3 images, seed 5"


def test_of_a_conditional_generator_a_column_is_a_class() -> None:
    method = NoisyClasses(conditional=True)
    found = draw(SampleGrid(rows=2, columns=4, seed=5), method)
    picture = read(found["png"])
    for column, label in enumerate([0, 2, 5, 7]):
        for row, image in enumerate(expected(method, [column, 4 + column], [label, label])):
            assert (cell(picture, row, column) == image).all()
    assert found["caption"] == "2 × 4 images, seed 5; classes a, c, f, h"
    wide = read(draw(SampleGrid(rows=1, columns=30), method)["png"])
    assert wide.shape[1] == 10 * 8 + 11 * GAP_PX  # no more columns than classes
    assert choose_classes(3, 3) == [0, 1, 2]


@pytest.mark.parametrize(("size", "world"), [(1, 1), (5, 1), (5, 2), (3, 4), (64, 7)])
@pytest.mark.parametrize("conditional", [False, True])
def test_no_batch_size_and_no_number_of_processes_changes_it(size: int, world: int, conditional: bool) -> None:
    method = NoisyClasses(conditional=conditional)
    one = draw(SampleGrid(rows=2, columns=3), method)
    assert draw(SampleGrid(rows=2, columns=3, batch_size=size), method, world) == one
    assert draw(SampleGrid(rows=2, columns=3, seed=1), method) != one


def test_it_measures_nothing() -> None:
    sums = on_ranks(SampleGrid(rows=1, columns=2), NoisyClasses(), SPLIT, CONTEXT, 1)
    assert not sums.means()
    assert SampleGrid().keys == ()


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 3)])
def test_pictures_of_any_number_of_channels(channels: int, shown: int) -> None:
    pixels = torch.linspace(-0.5, 2, 5 * channels * 4).view(5, channels, 2, 2)
    images = to_bytes(pixels)
    assert images.shape == (5, 2, 2, shown)
    assert (int(images[0].min()), int(images[-1].max())) == (0, 255)  # below 0 and above 1
    grid = make_grid(images, 2)
    assert grid.shape == (3 * 2 + 4 * GAP_PX, 2 * 2 + 3 * GAP_PX, shown)
    assert (grid[-2 - GAP_PX :, 2 + 2 * GAP_PX :] == 255).all()  # the place of a sixth image
    read_back = np.asarray(Image.open(io.BytesIO(encode_png(grid))))
    assert (read_back.reshape(grid.shape) == grid.numpy()).all()
