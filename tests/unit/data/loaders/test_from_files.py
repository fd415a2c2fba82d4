"""Sets whose images are decoded in every step: what does not decode, and what a set is named by."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.image_trees import images, picture, tree
from helpers.launches import META, Launches
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.data.colour import ColorJitter
from paribus.data.loaders.epoch_order import BatchIndex
from paribus.data.randaugment import RandAugment

HERE = DeviceContext(torch.device("cpu"))


def test_a_class_without_a_sound_image_ends_the_run(tmp_path: Path) -> None:
    for path in (tree(tmp_path, train=2) / "train" / "class_0").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match="no other image of its class decodes either"):
        images(tmp_path, on_error="skip")(HERE).loader(6, 0).batch(0)


def test_a_set_is_named_by_what_is_listed(tmp_path: Path) -> None:
    first = images(tree(tmp_path, sizes=((24, 40),)))(HERE)
    assert images(tmp_path)(HERE).checksum == first.checksum
    assert images(tmp_path, train_size=12)(HERE).checksum != first.checksum
    file = tmp_path / "train" / "class_0" / "000.png"
    file.write_bytes(file.read_bytes() + b"\0")
    assert images(tmp_path)(HERE).checksum != first.checksum
    assert first.sizes == {"train": 24, "val": 15}
    with pytest.raises(ConfigError, match=r"found 25; there are only 24 .*; lower it, e\.g\. batch_size=8$"):
        first.loader(25, 0)


@pytest.mark.parametrize("repeats", [1, 3])
def test_no_wait_for_a_device_in_training_or_evaluation(repeats: int, tmp_path: Path) -> None:
    augment = {"rand": RandAugment(std=0.5), "jitter": ColorJitter(brightness=0.4, hue=0.1)}
    made = images(tree(tmp_path), repeats=repeats, augment=augment)(DeviceContext(META))
    loader = made.loader(6, 0)
    with Launches() as counted:
        batches = [*(loader.batch(step) for step in range(2)), *made.splits["val"](4)]
    assert all(batch.inputs.is_meta and batch.ids.is_meta for batch in batches)
    assert counted.launches > 10
    assert counted.waits == []


@pytest.mark.parametrize(
    ("n", "world", "advice"),
    [(90, 1, "e.g. batch_size=32"), (1, 1, "e.g. batch_size=1"), (90, 3, "=24"), (3, 8, "images")],
)
def test_a_batch_that_is_too_large_is_told_one_that_fits(n: int, world: int, advice: str) -> None:
    with pytest.raises(ConfigError, match=f"{advice}$"):
        BatchIndex(n, 0, 1, 128 * world, world)


def test_images_that_do_not_decode_are_told_once_and_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where an evaluation meets them first."""
    tree(tmp_path)
    bad = ("train/class_1/003.png", "val/class_0/001.png")
    for name in bad:
        (tmp_path / name).write_bytes(b"")
    for first in ("loader", "splits"):
        data = images(tmp_path, on_error="skip")(HERE)
        assert list(data.undecodable()) == []
        loader = data.loader(24, 0)
        if first == "loader":
            loader.batch(0)
        seen = sum(len(batch.ids) for name in ("train_sample", "val") for batch in data.splits[name](8))
        loader.batch(0)
        assert seen == 23 + 14
        assert sorted(data.undecodable()) == sorted(bad)
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 2, lines
        assert "left out where training images are evaluated" in lines[0]
        assert "replaced by" in lines[0]
        assert lines[1].endswith("it is left out")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_images_of_low_values_are_warned_of_once(
    channels: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path)
    for path in sorted((tmp_path / "train").glob("*/*.png")):
        Image.fromarray(np.asarray(picture(path.name, 40, 40).convert("L")).astype(np.uint16)).save(path)
    data = images(tmp_path, channels=channels)(HERE)
    for _ in range(2):
        loader = data.loader(24, 0)
        loader.batch(0)
        list(data.splits["train_sample"](8))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    line = lines[0]
    assert "a 16-bit image whose values are all below 256 is black" in line
    assert "rescale such files to 0..65535" in line


def test_16_bit_images_that_are_really_black_or_full_are_not_warned_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path)
    for i, path in enumerate(sorted((tmp_path / "train").glob("*/*.png"))):
        Image.fromarray(np.full((40, 40), 257 * (i % 2), np.uint16)).save(path)
    images(tmp_path)(HERE).loader(24, 0).batch(0)
    assert capfd.readouterr().err == ""
