"""Small trees of images for tests, and the command line called in this process."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paribus.cli.main import dispatch

CLASSES = ("cat", "dog")


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """Smooth noise: resizing it well or badly makes a difference."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def tree(top: Path, train: int = 3, val: int = 2, classes: Sequence[str] = CLASSES) -> Path:
    """train and val: images a class."""
    seed = 0
    for split, n in (("train", train), ("val", val)):
        for name in classes:
            (top / split / name).mkdir(parents=True)
            for i in range(n):
                picture(seed, 40 + i, 30 + seed % 7).save(top / split / name / f"{name}_{i}.png")
                seed += 1
    return top


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, output and error of `paribus data …`; an error is one line."""
    capsys.readouterr()
    code = dispatch(["data", *map(str, words)])
    out, err = capsys.readouterr()
    assert err.count("\n") == (0 if code == 0 else 1), err
    return code, out, err
