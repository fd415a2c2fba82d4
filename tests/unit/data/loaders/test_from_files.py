"""Sets whose images are decoded in every step: what does not decode, and what a set is named by."""

from pathlib import Path

import pytest
import torch

from helpers.image_trees import images, tree
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext

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
