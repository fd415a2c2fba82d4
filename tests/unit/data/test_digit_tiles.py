"""Digit tiles: four digits of different classes, one of which gives the label; single digits as crops show them."""

import pytest
import torch
from torch import Tensor

from paribus.core.protocols import DataSets, DeviceContext
from paribus.data import digit_tiles
from paribus.data.digit_tiles import DigitTiles, draw_digits, draw_named, enlarge, lay_out
from paribus.data.ops.inputs import resized_crop

HERE = DeviceContext(torch.device("cpu"))
COUNT = 400


def pretend(root: object, split: str) -> tuple[Tensor, Tensor]:
    """Digits that say which they are: each of one grey level, which no other has among 250."""
    labels = torch.arange(COUNT if split == "train" else 30) % 10
    levels = (torch.arange(len(labels)) % 250 + 1).to(torch.uint8)
    return levels[:, None, None].expand(-1, 28, 28).contiguous(), labels


@pytest.fixture(autouse=True)
def _no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digit_tiles, "read_mnist", pretend)


def made(**settings: object) -> DataSets:
    return DigitTiles(**{"n": 50, **settings})(HERE)  # type: ignore[arg-type]


def whole(data: DataSets) -> tuple[Tensor, Tensor]:
    """Stored grey levels and labels of all training images."""
    assert data.whole is not None
    batches = list(data.whole(64, None))
    inputs, targets = torch.cat([b.inputs for b in batches]), torch.cat([b.targets for b in batches])
    return ((inputs * 0.31 + 0.13) * 255).round()[:, 0], targets


def test_digits_are_of_four_classes_all_of_which_come_equally_often() -> None:
    _, labels = pretend("", "train")
    chosen = draw_digits(labels, 4000, 0)
    classes = labels[chosen].sort(1).values
    assert bool((classes.diff(dim=1) > 0).all())
    assert torch.allclose(classes.flatten().bincount(minlength=10) / 4000, torch.tensor(0.4), atol=0.04)
    assert len(chosen.unique()) == COUNT, "every digit of a class is drawn"
    assert torch.equal(draw_digits(labels, 4000, 0), chosen)
    assert not torch.equal(draw_digits(labels, 4000, 1), chosen)


def test_the_label_is_that_of_one_of_the_tiles_each_a_quarter_of_the_time() -> None:
    pixels, targets = whole(made(n=2000))
    tiles = torch.stack([pixels[:, y, x] for y in (7, 21) for x in (7, 21)], 1)
    # the pretended digits' grey levels say their classes
    classes = (tiles.long() - 1) % 10
    named = draw_named(2000, 0)
    assert torch.equal(targets, classes.gather(1, named[:, None])[:, 0])
    assert torch.allclose(named.bincount(minlength=4) / 2000, torch.tensor(0.25), atol=0.04)
    assert bool((classes == targets[:, None]).sum(1).eq(1).all())


def test_tiles_are_laid_out_in_reading_order() -> None:
    tiles = torch.arange(4, dtype=torch.uint8)[None, :, None, None].expand(1, 4, 14, 14).contiguous()
    laid = lay_out(tiles)[0]
    assert [int(laid[y, x]) for y, x in ((0, 0), (13, 14), (14, 13), (27, 27))] == [0, 1, 2, 3]


def test_a_single_digit_is_what_a_crop_onto_its_tile_shows() -> None:
    tiles = torch.randint(0, 256, (3, 4, 14, 14), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    canvas = lay_out(tiles)[..., None].contiguous()
    box = torch.tensor([[0, 14, 14, 14]]).expand(3, 4)  # the tile at the top right
    cropped = resized_crop(canvas, torch.arange(3), box, (28, 28))[..., 0]
    assert torch.equal(enlarge(tiles[:, 1].contiguous()), cropped)


def test_single_has_one_digit_an_image_and_val_is_the_same_for_both() -> None:
    single, tiles = made(train="single", scale=(1.0, 1.0)), made()
    pixels, targets = whole(single)
    assert bool((pixels == pixels[:, :1, :1]).all())
    assert torch.equal((pixels[:, 0, 0].long() - 1) % 10, targets)
    vals = [next(iter(data.splits["val"](30))) for data in (single, tiles)]
    assert torch.equal(vals[0].inputs, vals[1].inputs)
    assert vals[0].targets.tolist() == [k % 10 for k in range(30)]
    loader = single.loader(10, 0)
    assert torch.equal(
        ((loader.batch(0).inputs * 0.31 + 0.13) * 255).round()[:, 0, 0, 0], pixels[loader.batch(0).ids, 0, 0]
    )


def test_images_depend_on_draw_alone() -> None:
    assert made().checksum == made().checksum != made(draw=1).checksum
    assert made(train="single").checksum != made().checksum
