"""A dataset class of the user's: whose labels mean what, and images of every mode."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from helpers.image_trees import picture, tree
from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.trees.decoding import decode_image
from paribus.data.wrapped import DatasetSource, FromDataset

HERE = DeviceContext(torch.device("cpu"))


class Given:
    """Items as they are given. names: attributes that name the classes."""

    def __init__(self, targets: list[int], names: dict[str, Any] | None = None, image: Any = None) -> None:
        self.targets, self.image = targets, image or picture(0, 16, 16)
        vars(self).update(names or {})

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.image, self.targets[i]


def wrapped(train: dict[str, Any] | None, val: dict[str, Any] | None) -> DataSets:
    """Training images of the classes 0, 1 and 2; of val's, one image of each that it names."""
    count = len(next(iter(val.values()))) if val else 2
    made = FromDataset(
        dataset=Given,
        train={"targets": [0, 1, 2, 2], "names": train},
        val={"targets": list(range(count)), "names": val},
        size=16,
        workers=0,
    )
    return made(HERE)


def labels(data: DataSets, split: str = "val") -> list[int]:
    return [label for batch in data.splits[split](2) for label in batch.targets.tolist()]


def test_a_val_folder_without_a_class_keeps_its_labels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Torchvision numbers the folders that are there: class_2 is 1 in this val/, and 2 in train/."""
    root = tree(tmp_path, train=2, val=2)
    shutil.rmtree(root / "val" / "class_1")
    kinds = ({"root": str(root / split)} for split in ("train", "val"))
    train, val = kinds
    data = FromDataset(dataset=ImageFolder, train=train, val=val, size=16, workers=0)(HERE)
    assert labels(data) == [0, 0, 2, 2]
    assert data.names == data.class_ids == ("class_0", "class_1", "class_2")
    assert "warning: data: val has no image of 1 of 3 classes: class_1\n" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        ({"classes": ["a", "b", "c"]}, {"classes": ["a", "b", "c"]}, [0, 1, 2]),
        ({"classes": ["a", "b", "c"]}, {"classes": ("c", "a", "b")}, [2, 0, 1]),
        ({"classes": np.array(["a", "b", "c"])}, {"classes": ["b", "c"]}, [1, 2]),
        # class_to_idx is what made the targets, `classes` may be sorted otherwise
        (
            {"class_to_idx": {"b": 0, "a": 1, "c": 2}, "classes": ["a", "b", "c"]},
            {"classes": ["a", "b", "c"]},
            [1, 0, 2],
        ),
        ({"classes": {"c": 0, "b": 1, "a": 2}, "class_to_idx": {"c": 0, "b": 1, "a": 2}}, {"classes": ["a"]}, [2]),
        # torchvision's ImageNet: several names for a class
        ({"classes": [("a", "x"), ("b",), ("c",)]}, {"classes": [("c",), ("a", "x")]}, [2, 0]),
        ({"classes": ["crane", "crane", "c"]}, {"classes": ["crane", "crane", "c"]}, [0, 1, 2]),
        (None, None, [0, 1]),
    ],
)
def test_labels_of_val_are_matched_by_name(
    train: dict[str, Any] | None, val: dict[str, Any] | None, expected: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert labels(wrapped(train, val)) == expected
    assert "unchecked" not in capfd.readouterr().err


def test_classes_that_cannot_be_matched_are_refused_or_said(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"^data\.val: .* not those of data\.train; not in data\.train: horse$"):
        wrapped({"classes": ["cat", "dog", "cow"]}, {"classes": ["cat", "horse"]})
    with pytest.raises(ConfigError, match=r"some classes have the same name, so that they cannot be matched"):
        wrapped({"classes": ["crane", "crane", "c"]}, {"classes": ["c", "crane"]})
    assert labels(wrapped({"classes": ["cat", "dog", "cow"]}, None)) == [0, 1]
    assert "data.val has no class names; labels are taken by their position, unchecked" in capfd.readouterr().err
    with pytest.raises(ConfigError, match=r"found the label 3; data\.train has 3 classes"):
        wrapped(None, {"class_to_idx": dict.fromkeys("abcd", 0)})


LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
DEEP = LEVELS.astype(np.uint16) * 256 + 77


def of_mode(mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (16, 16), DEEP.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    colour = picture(0, 16, 16)
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        lab = ImageCms.applyTransform(colour, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
        assert lab is not None
        return lab
    by_way = {"La": "LA", "RGBa": "RGBA"}.get(mode)
    return (colour.convert(by_way) if by_way else colour).convert(mode)


@pytest.mark.parametrize(
    "mode",
    [
        *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa"),
        *("CMYK", "YCbCr", "LAB", "HSV", "I;16", "I;16L", "I;16B"),
    ],
)
def test_an_image_of_any_mode_keeps_its_content(mode: str) -> None:
    """Grey ones against the levels they hold, colours against the picture that they were made of."""
    image = of_mode(mode)
    assert image.mode == mode
    found = np.asarray(DatasetSource("x", "train", Given([0], image=image)).image(0)).astype(int)
    assert found.shape == (16, 16, 3)
    if mode.startswith("I;16"):
        assert np.array_equal(found, np.repeat(LEVELS[..., None], 3, 2))
        return
    grey = mode in ("1", "L", "LA", "La")
    expected = np.asarray(picture(0, 16, 16).convert("1" if mode == "1" else "L" if grey else "RGB").convert("RGB"))
    assert abs(found - expected).mean() < (30 if mode in ("P", "PA") else 4)


@pytest.mark.parametrize(("mode", "dtype"), [("I", np.int32), ("F", np.float32)])
def test_pixels_without_a_known_range_are_refused_by_name(mode: str, dtype: Any) -> None:
    image = Image.fromarray(LEVELS.astype(dtype))
    assert image.mode == mode
    with pytest.raises(ConfigError, match=rf"Given train\[0\]: pixels of mode {mode} have no known range"):
        FromDataset(dataset=Given, train={"targets": [0], "image": image}, val={"targets": [0]}, size=16)(HERE)


@pytest.mark.parametrize(("ending", "mode"), [(".png", "I;16"), (".pgm", "I"), (".tif", "I;16")])
def test_a_dataset_class_that_opens_files_gives_what_the_folder_reader_gives(
    tmp_path: Path, ending: str, mode: str
) -> None:
    path = tmp_path / f"deep{ending}"
    Image.fromarray(DEEP).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
        found = np.asarray(DatasetSource("x", "train", Given([0], image=image)).image(0))
    assert np.array_equal(found, np.asarray(decode_image(path)))
    assert np.array_equal(found, np.repeat(LEVELS[..., None], 3, 2))
