"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the official Python pickles, kept on the device as uint8."""

import hashlib
import os
import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.lock import locked
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.loaders.epoch_order import Sampling
from paribus.data.loaders.in_memory import Images, build_in_memory_sets
from paribus.data.loaders.preprocessing import DecodeSquare, FilePreprocessing
from paribus.data.ops.crop_flip import downsample
from paribus.data.ops.input_spec import Augmentation, InputSpec, PadCrop

# name -> folder, label key, {file: md5}; the checksums are torchvision's
_FILES: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    "cifar10": (
        "cifar-10-batches-py",
        "labels",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        {"test_batch": "40351d587109b95175f43aff81a1287e"},
    ),
    "cifar100": (
        "cifar-100-python",
        "fine_labels",
        {"train": "16019d7e3df5f24257cddd939b257f8d"},
        {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    ),
}
# in the order of the labels, as in batches.meta and meta beside the images
CLASSES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    "cifar100": """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """,
}
# of the training set at 32 px, in units of the 0–1 range; CIFAR-10's are those of the CutMix authors, divided by 255
MEAN_STD = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


@schema
class Cifar:
    """50,000 training and 10,000 test images of 32×32 pixels; the test set is the split `val`.

    name: which of the two. root: the folder that holds cifar-10-batches-py or cifar-100-python; else PARIBUS_DATA,
    else ./data. download: fetch it if it is not there. mean, std: of a channel in units of the 0–1 range; null: of the
    full training set.
    train_size: a stratified subset of the training set. minival: images held out from it for selection.
    sampling: each image once an epoch, or each class equally often.
    size: average down to this many pixels a side. pad: random crop after this many pixels of padding. flip:
    horizontally, half of the time.
    augment: further augmentations by name, in order.
    """

    name: Literal["cifar10", "cifar100"]
    root: str | None = None
    download: bool = False
    train_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    sampling: Sampling = "shuffle"
    size: Annotated[int, Field(ge=4, le=32)] = 32
    pad: Annotated[int, Field(ge=0, le=16)] = 4
    flip: bool = True
    augment: Mapping[str, Augmentation] = Field(default_factory=dict)
    mean: tuple[float, float, float] | None = None
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = (
        None
    )

    def is_at(self, root: Path) -> bool:
        """Whether the set's own files lie under this root."""
        return (root / _FILES[self.name][0]).is_dir()

    def __call__(self, place: DeviceContext) -> DataSets:
        root = Path(self.root or os.environ.get("PARIBUS_DATA") or "data").expanduser()
        folder, label, train_files, test_files = _FILES[self.name]
        if self.download:
            _download(self.name, root)
        train = _read(self.name, root / folder, label, train_files)
        val = _read(self.name, root / folder, label, test_files)
        if self.size != 32:
            train, val = (Images(downsample(d.images, self.size), d.targets, d.ids) for d in (train, val))
        input_spec = self._input_spec()
        names = tuple(CLASSES[self.name].split())
        return build_in_memory_sets(
            self.name, train, val, len(names), input_spec, place, self.train_size, self.minival, names
        )

    def file_preprocessing(self) -> FilePreprocessing:
        """An image file as one of the set's: 32 pixels a side, then averaged down as the set is."""
        shrink = None if self.size == 32 else partial(downsample, size=self.size)
        return FilePreprocessing(DecodeSquare(32, 3), 32, self.size, 3, self._input_spec(), shrink)

    def _input_spec(self) -> InputSpec:
        balanced = self.sampling == "balanced"
        mean, std = MEAN_STD[self.name]
        crop = PadCrop(pad=self.pad)
        return InputSpec(self.mean or mean, self.std or std, crop, self.flip, self.augment, 1, balanced)


def _read(name: str, folder: Path, label: str, files: dict[str, str]) -> Images:
    """The images of these files in order. A file is checked against its official md5 before it is unpickled."""
    pixels: list[np.ndarray[Any, Any]] = []
    targets: list[int] = []
    for file, md5 in files.items():
        path = folder / file
        if not path.is_file():
            raise ConfigError(
                f"data.root: {name} is not there (no {path}); point data.root or PARIBUS_DATA to the folder that holds "
                f"{folder.name}, or fetch it with data.download=true"
            )
        raw = path.read_bytes()
        if (found := hashlib.md5(raw).hexdigest()) != md5:
            raise ConfigError(
                f"data.root: {path} is damaged or not the official file (md5 {found}, expected {md5}); delete it and "
                "fetch it again, e.g. with data.download=true"
            )
        content = pickle.loads(raw, encoding="latin1")
        pixels.append(content["data"])
        targets += content[label]
    images = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(torch.from_numpy(np.ascontiguousarray(images)), torch.tensor(targets), torch.arange(len(targets)))


def _download(name: str, root: Path) -> None:
    import torchvision.datasets  # takes 5 s to import, so only for a download

    root.mkdir(parents=True, exist_ok=True)
    cls = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    try:
        with locked(root, wait=True):  # several processes on one folder: the first fetches, the others find it there
            cls(str(root), train=True, download=True)
    except Exception as error:  # urllib, tarfile and torchvision each raise their own exceptions
        raise ConfigError(f"data.download: {name} could not be fetched into {root}: {error}") from error
