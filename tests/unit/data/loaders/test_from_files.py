"""Sets whose images are decoded in every step: what does not decode, and what a set is named by."""

from pathlib import Path

import pytest
import torch

from helpers.image_trees import images, tree
from helpers.launches import META, Launches
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.data.colour import ColorJitter
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
    with pytest.raises(ConfigError, match="batch_size: found 25; there are only 24"):
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
