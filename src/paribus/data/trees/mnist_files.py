"""The four official files of MNIST, unpacked, as torchvision.datasets.MNIST lays them out."""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from paribus.core.errors import ConfigError

_FOLDER = Path("MNIST", "raw")
_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def is_mnist_at(root: Path) -> bool:
    """Whether the files lie under this root."""
    return (root / _FOLDER).is_dir()


def find_mnist(root: str | None) -> Path:
    """The folder of the files under this root; under PARIBUS_DATA, else ./data, for None."""
    return Path(root or os.environ.get("PARIBUS_DATA") or "data").expanduser() / _FOLDER


def read_mnist(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Digits, (n, 28, 28) uint8, and labels, (n,) int64. split: train or t10k. Raises ConfigError unless the files are
    the official ones."""
    parts: list[Tensor] = []
    for name, head in ((f"{split}-images-idx3-ubyte", 16), (f"{split}-labels-idx1-ubyte", 8)):
        path = folder / name
        if not path.is_file():
            raise ConfigError(
                f"data.root: MNIST is not there (no {path}); point data.root or PARIBUS_DATA to the folder that holds "
                "MNIST/raw with the four unpacked files, as torchvision.datasets.MNIST(root, download=True) makes it"
            )
        raw = path.read_bytes()
        if (found := hashlib.md5(raw).hexdigest()) != _MD5[name]:
            raise ConfigError(f"data.root: {path} is not the official file (md5 {found}, expected {_MD5[name]})")
        parts.append(torch.from_numpy(np.frombuffer(raw, np.uint8, offset=head).copy()))
    return parts[0].view(-1, 28, 28), parts[1].long()
