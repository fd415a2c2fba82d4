"""Files without labels become exactly the inputs that evaluation makes of them, for every data set."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from helpers.image_trees import images, tree
from helpers.packs import QUIET
from paribus.core.errors import ConfigError
from paribus.core.protocols import DataFactory, DeviceContext
from paribus.data.cifar import Cifar
from paribus.data.digits import Digits
from paribus.data.images import ImageSet
from paribus.data.loaders.preprocessing import find_file_preprocessing
from paribus.data.loaders.unlabelled import UnlabelledBatch, unlabelled_batches
from paribus.data.ops.inputs import InputTransform
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.data.synthetic import Synthetic
from paribus.data.trees.files import list_image_files

PLACE = DeviceContext(torch.device("cpu"))
SIZES = ((40, 40), (30, 50), (64, 33), (16, 16))


def read(files: list[Path], data: Any, batch_size: int = 4) -> list[UnlabelledBatch]:
    return list(unlabelled_batches(files, find_file_preprocessing(data), PLACE, batch_size))


def together(batches: list[UnlabelledBatch]) -> torch.Tensor:
    return torch.cat([batch.inputs for batch in batches])


def evaluated(data: DataFactory) -> torch.Tensor:
    return torch.cat([batch.inputs for batch in data(PLACE).splits["val"](3)])


def test_files_of_a_tree_are_its_evaluation_to_the_bit(tmp_path: Path) -> None:
    root = tree(tmp_path, sizes=SIZES)
    files = list_image_files([root / "val"])
    for settings in ({}, {"eval_ratio": 0.7, "interpolation": "bicubic"}, {"size": 24, "mean": (0.1, 0.2, 0.3)}):
        data = images(root, **settings)
        assert torch.equal(together(read(files, data)), evaluated(data)), settings


def test_files_are_what_a_pack_evaluates_without_the_pack(tmp_path: Path) -> None:
    root = tree(tmp_path, sizes=SIZES)
    prepare(PrepareRequest("folder", root, size=32), QUIET)
    packed = ImageSet(name="folder", root=str(root), pack_size=32, size=16, eval_ratio=0.8)
    whole = images(root, eval_ratio=0.8)
    files = list_image_files([root / "val"])
    assert torch.equal(together(read(files, packed)), evaluated(packed))
    assert not torch.equal(together(read(files, whole)), evaluated(packed))  # the two forms differ in what they keep


def test_batches_and_workers_change_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path, val=50, sizes=SIZES)
    files = list_image_files([root / "val"])
    alone = together(read(files, images(root), 1))
    assert torch.equal(together(read(files, images(root), 150)), alone)
    assert torch.equal(together(read(files, images(root, workers=2), 7)), alone)


def test_a_file_that_does_not_decode_is_reported_and_skipped(tmp_path: Path) -> None:
    root = tree(tmp_path, classes=1, val=5)
    files = list_image_files([root / "val"])
    files[1].write_bytes(b"no image")
    first, second = read(files, images(root), 3)
    assert first.paths == (files[0], files[2])
    assert first.rows.tolist() == [0, 2]
    assert len(first.inputs) == 2
    assert [path for path, _ in first.errors] == [files[1]]
    assert str(files[1]) in first.errors[0][1]
    assert (second.paths, second.errors) == (tuple(files[3:]), ())
    for file in files:
        file.write_bytes(b"")
    (batch,) = read(files, images(root), 9)
    assert batch.inputs.shape == (0, 3, 16, 16)
    assert len(batch.errors) == 5


def test_sets_in_memory_take_files_too(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (8, 8), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "x.png")
    digits = Digits()
    (batch,) = read([tmp_path / "x.png"], digits)
    expected = InputTransform(digits.file_preprocessing().input_spec, PLACE).transform_eval(pixels[None, :, :, None])
    assert torch.equal(batch.inputs, expected)
    assert read([tmp_path / "x.png"], Cifar(name="cifar10", size=16))[0].inputs.shape == (1, 3, 16, 16)
    assert read([tmp_path / "x.png"], Synthetic(channels=4, size=12))[0].inputs.shape == (1, 4, 12, 12)
    with pytest.raises(ConfigError, match=r"data.channels: found 2"):
        read([tmp_path / "x.png"], Synthetic(channels=2))
    with pytest.raises(ConfigError, match="does not say how an image file becomes an input"):
        find_file_preprocessing(object())
