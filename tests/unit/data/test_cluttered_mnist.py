"""Cluttered MNIST: the mask is the digit's, everything is a function of the draw, and training never sees a mask."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from paribus.core.protocols import DataSets, DeviceContext
from paribus.data import cluttered_mnist
from paribus.data.cluttered_mnist import INK, ClutteredMnist, scatter


def digits(n: int = 30, d: int = 6) -> Tensor:
    return torch.randint(0, 256, (n, d, d), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_without_fragments_the_canvas_is_the_digit_and_its_mask_the_ink() -> None:
    canvas, mask = scatter(digits(), 15, 0, 3, 0, "train")
    assert canvas.shape == mask.shape == (30, 15, 15)
    assert torch.equal(mask, canvas >= INK)
    for image, digit in zip(canvas, digits(), strict=True):
        windows = image.unfold(0, 6, 1).unfold(1, 6, 1)
        assert bool((windows == digit).all(-1).all(-1).any())
        assert image.sum() == digit.sum()


def test_fragments_lie_over_it_and_leave_the_mask_alone() -> None:
    plain, mask = scatter(digits(), 15, 0, 3, 0, "train")
    canvas, same = scatter(digits(), 15, 4, 3, 0, "train")
    assert not torch.equal(mask, same), "other settings are other draws"
    assert bool((canvas[same] >= INK).all()), "what covers a pixel is brighter"
    assert bool(((canvas > 0) & ~same).any())
    assert canvas.sum() > plain.sum()


def test_places_differ_and_belong_to_the_draw_and_the_split() -> None:
    made = {key: scatter(digits(), 15, 4, 3, *key) for key in ((0, "train"), (1, "train"), (0, "t10k"))}
    assert all(
        torch.equal(a, b) for a, b in zip(made[0, "train"], scatter(digits(), 15, 4, 3, 0, "train"), strict=True)
    )
    assert not torch.equal(made[0, "train"][1], made[1, "train"][1])
    assert not torch.equal(made[0, "train"][1], made[0, "t10k"][1])
    corners = {tuple(torch.nonzero(mask)[0].tolist()) for mask in made[0, "train"][1]}
    assert len(corners) > 15


def build(monkeypatch: pytest.MonkeyPatch, **settings: int) -> DataSets:
    def read(folder: Path, split: str) -> tuple[Tensor, Tensor]:
        count = 60 if split == "train" else 40
        return digits(count, 28), torch.arange(count) % 10

    monkeypatch.setattr(cluttered_mnist, "read_mnist", read)
    return ClutteredMnist(**settings)(DeviceContext(torch.device("cpu")))  # type: ignore[arg-type]


def test_masks_are_of_evaluation_batches_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = build(monkeypatch, train_size=40, minival=10, val_size=20)
    assert data.sizes == {"train": 40, "minival": 10, "val": 20}
    assert not data.loader(10, 0).batch(0).also
    assert "train" not in data.facts
    assert all("mask" in data.facts[split] for split in ("val", "minival", "train_sample"))
    (batch,) = data.splits["val"](99)
    assert batch.also["mask"].shape == (20, 32, 32)
    assert batch.inputs.shape == (20, 1, 32, 32)
    grey = batch.inputs[:, 0] * data.std[0] + data.mean[0]
    assert bool((grey[batch.also["mask"]] >= INK / 255 - 1e-4).all())


def test_sizes_that_do_not_fit_are_refused() -> None:
    for sizes in ({"digit": 20, "size": 16}, {"fragment": 9, "digit": 8}):
        with pytest.raises(ValueError, match="has to fit"):
            ClutteredMnist(**sizes)  # type: ignore[arg-type]
