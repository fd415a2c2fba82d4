"""A user's own map-style dataset class, as for torch's DataLoader: `len(d)` and `d[i]`, an image and its label.

    _target_: paribus.data.wrapped.FromDataset       # configs: one file of your own, e.g. my/data/shapes.yaml
    dataset: {_class_: shapes.Shapes}                # paribus train --config-dir my data=shapes packages=[shapes]
    train: {split: train}                            # keyword arguments of the class for each split
    val: {split: val}

The class returns whole images; paribus crops, flips, augments and normalises them, with random numbers that depend on
the sample's index. So an index must give the same image at any time and in any process, and the class has no transform.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from paribus.core.build import schema
from paribus.core.errors import ConfigError, explain_exception
from paribus.core.labels import choose_class_ids, match_classes
from paribus.core.long_step import long_step
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.loaders.from_files import build_decoded_sets
from paribus.data.loaders.settings import ImageDataSettings
from paribus.data.trees.decoding import BadImage, to_channels


@schema
class FromDataset(ImageDataSettings):
    """dataset: the class, of a package named in packages. train, val: its keyword arguments for each split.

    An item is (image, label) or longer. image: a Pillow image, a uint8 array (h, w), (h, w, 1 or 3), or a uint8 tensor
    (h, w), (1 or 3, h, w); with channels=4 also red, green, blue and alpha. All are converted as files are
    (data/trees/decoding.py). label: a whole number from 0. Labels are read from the dataset's `targets` or `labels`
    where it has them, else from every item, once, at the start. Names of classes come from its `class_to_idx` or
    `classes`; where both splits have them, the labels of `val` are matched with those of `train` by name. Its `also`,
    if it has one, maps names of further facts to a value for each item: whole numbers, such as a group or a bias, where
    -1 is not annotated; or floats, where NaN is. They are in `Batch.also`.
    """

    dataset: type[Any]
    train: dict[str, Any]
    val: dict[str, Any]

    @property
    def needs_content_check(self) -> bool:
        """The config does not identify the images, so a resumed or completed run compares their checksum."""
        return True

    def __call__(self, place: DeviceContext) -> DataSets:
        parts = {split: self._build_source(split) for split in ("train", "val")}
        train, val = parts.values()
        classes = train.classes
        self._match_labels(train, val, warn=place.rank == 0)
        if int(val.targets.max()) >= len(classes):
            raise ConfigError(
                f"data.val: found the label {int(val.targets.max())}; data.train has {len(classes)} classes"
            )
        facts = {split: _read_facts(source.dataset, f"data.{split}") for split, source in parts.items()}
        return build_decoded_sets(train.name, train, val, self, place, train.names, facts=facts)

    def _match_labels(self, train: "DatasetSource", val: "DatasetSource", warn: bool) -> None:
        """Turn the labels of `val` into those of `train`. Raises ConfigError for a class that `train` does not have."""
        if train.names == val.names:
            return
        if choose_class_ids((), train.names) and choose_class_ids((), val.names):
            indices = match_classes(val.names, train.names, "data.val", "data.train", allow_missing=True)
            val.targets = torch.tensor(indices)[val.targets]
        elif train.names and val.names:
            raise ConfigError(
                "data.val: its classes have other names than those of data.train, and some classes have the same name, "
                "so that they cannot be matched"
            )
        elif warn:
            unnamed = "train" if val.names else "val"
            print(
                f"warning: data.{unnamed} has no class names; labels are taken by their position, unchecked",
                file=sys.stderr,
            )

    def _build_source(self, split: str) -> "DatasetSource":
        given, name = getattr(self, split), self.dataset.__qualname__
        try:
            made = self.dataset(**given)
            n = len(made)
        except Exception as error:
            raise ConfigError(
                f"data.{split}: {name} cannot be made from {given}: {explain_exception(error)}"
            ) from error
        if not n:
            raise ConfigError(f"data.{split}: {name} is empty")
        source = DatasetSource(name, split, made, self.channels)
        source.image(0)  # BadImage is a ConfigError: fail now if the class's images cannot be used
        return source


class DatasetSource:
    """A split of such a dataset, as a Source (data/trees/source.py)."""

    def __init__(self, name: str, split: str, dataset: Any, channels: int = 3) -> None:
        self.name, self.split, self.dataset, self._channels = name, split, dataset, channels
        self.targets = _read_labels(dataset, f"data.{split}")
        count = int(self.targets.max()) + 1
        names = _read_class_names(dataset)
        if 0 < len(names) < count:
            raise ConfigError(
                f"data.{split}: {name} names {len(names)} classes and has labels up to {count - 1}; it should name "
                "every class, or none"
            )
        self.names = names
        self.classes = self.names or tuple(map(str, range(count)))

    def image_name(self, index: int) -> str:
        return f"{self.name} {self.split}[{index}]"

    def image(self, index: int) -> Image.Image:
        """Raises BadImage, also for any error in the dataset's own code."""
        try:
            image = self.dataset[index][0]
        except Exception as error:
            raise BadImage(f"{self.image_name(index)}: {explain_exception(error)}") from error
        try:
            return _to_image(image, self._channels)
        except (ValueError, TypeError, OSError) as error:
            raise BadImage(f"{self.image_name(index)}: {error}") from error


def _read_class_names(dataset: Any) -> tuple[str, ...]:
    """In the order of the labels; () where they are not known. Torchvision's ImageNet has several names for a class."""
    index = getattr(dataset, "class_to_idx", None)
    if isinstance(index, Mapping) and set(index.values()) == set(range(len(index))):
        names: Any = sorted(index, key=lambda name: index[name])
    else:
        names = getattr(dataset, "classes", None)
    if isinstance(names, Mapping | str) or not isinstance(names, Sequence | np.ndarray):
        return ()
    joined = [", ".join(map(str, name)) if isinstance(name, tuple | list) else name for name in names]
    return tuple(map(str, joined)) if all(isinstance(name, str) for name in joined) else ()


def _read_labels(dataset: Any, where: str) -> Tensor:
    known = next((found for key in ("targets", "labels") if (found := getattr(dataset, key, None)) is not None), None)
    try:
        given = known if known is not None else _read_every_label(dataset, where)
        labels = torch.as_tensor(np.asarray(given))
    except Exception as error:
        raise ConfigError(f"{where}: its labels cannot be read: {explain_exception(error)}") from error
    if labels.shape != (len(dataset),) or labels.is_floating_point() or labels.is_complex() or int(labels.min()) < 0:
        raise ConfigError(
            f"{where}: found labels {labels.dtype} of shape {tuple(labels.shape)}; expected a whole number from 0 for "
            f"each of the {len(dataset)} items"
        )
    return labels.long()


def _read_every_label(dataset: Any, where: str) -> list[Any]:
    labels: list[Any] = []
    with long_step(f"labels of {where}", len(dataset), "items") as advance:
        for i in range(len(dataset)):
            labels.append(dataset[i][1])
            advance(1)
    return labels


def _read_facts(dataset: Any, where: str) -> dict[str, Tensor]:
    """The class's `also`, (n, …) int64 or float32 by name. Raises ConfigError."""
    given: Any = getattr(dataset, "also", {})
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: found also, a {type(given).__name__}; expected a dict, {{'group': [0, 1, …]}}")
    made = dict[str, Tensor]()
    for name, values in given.items():
        try:
            found = torch.as_tensor(np.asarray(values))
        except Exception as error:
            raise ConfigError(f"{where}: also[{name!r}] cannot be read: {explain_exception(error)}") from error
        if found.ndim == 0 or len(found) != len(dataset) or found.is_complex() or name == "box":
            raise ConfigError(
                f"{where}: found also[{name!r}], {found.dtype} of shape {tuple(found.shape)}; expected a number, or "
                f"several, for each of the {len(dataset)} items, and boxes only of a tree (boxes.csv)"
            )
        made[name] = found.float() if found.is_floating_point() else found.long()
    return made


def _to_image(image: Any, channels: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return to_channels(image, channels)
    if isinstance(image, Tensor):
        image = (image.permute(1, 2, 0) if image.ndim == 3 else image).numpy()
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(
            f"found {kind}; expected a Pillow image or uint8 pixels, without ToTensor or another transform in the class"
        )
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, channels):
        more = ", or four (RGBA)" if channels == 4 else ""
        raise TypeError(f"found pixels of shape {image.shape}; expected one or three channels{more}")
    if image.shape[2] == 1:
        image = np.broadcast_to(image, (*image.shape[:2], 3))
    return to_channels(Image.fromarray(np.ascontiguousarray(image)), channels)
