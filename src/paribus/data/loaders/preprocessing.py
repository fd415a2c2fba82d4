"""How an image file becomes an input of a network, to the bit as in the evaluation of the data set it was trained on.

Each data set's config says it (`file_preprocessing`), so that files outside of the set, with or without labels, can be
given to a network without the set being there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from paribus.core.errors import ConfigError
from paribus.data.loaders.decode_batch import resize_center_crop, to_array
from paribus.data.ops.input_spec import InputSpec, Interpolation
from paribus.data.trees.decoding import decode_image, decode_square

FileDecoder = Callable[[str | Path], "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class DecodeWhole:
    """A file as data.form=folder evaluates it: shorter side to size / ratio, the centre; (size, size, channels) uint8.
    Raises BadImage."""

    size: int
    ratio: float
    interpolation: Interpolation
    channels: int

    def __call__(self, path: str | Path) -> "np.ndarray[Any, Any]":
        return resize_center_crop(decode_image(path, channels=self.channels), self.size, self.ratio, self.interpolation)


@dataclass(frozen=True)
class DecodeSquare:
    """A file as a pack stores it: (size, size, channels) uint8. Raises BadImage."""

    size: int
    channels: int

    def __call__(self, path: str | Path) -> "np.ndarray[Any, Any]":
        return to_array(decode_square(path, self.size, channels=self.channels))


@dataclass(frozen=True)
class FilePreprocessing:
    """decode: a file's pixels, (stored, stored, channels) uint8; picklable, for worker processes; raises BadImage.

    change: pixels of a batch on the device, (b, stored, stored, c) uint8, to (b, size, size, c) uint8, before they are
    normalised; None where they are of that size already. input_spec: has the mean and std. workers: as data.workers.
    """

    decode: FileDecoder
    stored: int
    size: int
    channels: int
    input_spec: InputSpec
    change: Callable[[Tensor], Tensor] | None = None
    workers: int | Literal["auto"] = "auto"


@runtime_checkable
class HasFilePreprocessing(Protocol):
    """Capability of a data set's config."""

    def file_preprocessing(self) -> FilePreprocessing: ...


def find_file_preprocessing(data: Any) -> FilePreprocessing:
    """Of a data set's config. Raises ConfigError for a class of the user's own that does not say."""
    if not isinstance(data, HasFilePreprocessing):
        raise ConfigError(
            f"data: {type(data).__name__} does not say how an image file becomes an input; give the class a method "
            "file_preprocessing() (paribus.data.loaders.preprocessing.FilePreprocessing)"
        )
    return data.file_preprocessing()
