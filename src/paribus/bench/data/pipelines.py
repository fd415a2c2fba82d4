"""Training input as users get it: ours, torchvision's transforms in torch's DataLoader, timm's create_loader.

Each is opened for a task on given images and then yields (inputs, targets) batches endlessly.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from paribus.bench.harness.implementation import require_package
from paribus.core.progress import Progress
from paribus.core.protocols import DeviceContext, Loader
from paribus.data.images import ImageSet
from paribus.data.loaders.in_memory import Images, InMemoryLoader
from paribus.data.ops.input_spec import InputSpec, PadCrop, ResizedCrop
from paribus.techniques.cutmix import CutMix

Pair = tuple[Tensor, Tensor]
Crop = Literal["pad", "resized", "none"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAD = 4


@dataclass(frozen=True)
class ImageArrays:
    """images (n, h, w, 3) uint8 in memory, and a class id for each."""

    images: np.ndarray[Any, np.dtype[np.uint8]]
    labels: Sequence[int]
    classes: int

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageTree:
    """A folder with train/CLASS/*.JPEG and val/."""

    root: Path


@dataclass(frozen=True)
class InputTask:
    """crop: a window after padding by PAD black pixels (pad), or a box of random area resized to `size` (resized), with
    a horizontal flip half of the time; none: as it is. Then float32, normalised with MEAN and STD, on `device`."""

    crop: Crop
    size: int
    batch: int
    device: torch.device
    cutmix: bool = False


OpenFeed = Callable[[InputTask, Any], AbstractContextManager[Iterator[Pair]]]


class ArrayDataset(Dataset[Any]):
    """Like torchvision's CIFAR10: a PIL image from its array for each index, then the transform."""

    def __init__(self, source: ImageArrays, transform: Any = None, pil: bool = True) -> None:
        self.source, self.transform, self.pil = source, transform, pil

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image: Any = self.source.images[index]
        return self.transform(Image.fromarray(image) if self.pil else image), self.source.labels[index]


@dataclass(frozen=True)
class MixingCollate:
    """Collates, then mixes, as in torchvision's guide."""

    mixer: Any

    def __call__(self, samples: list[Any]) -> Any:
        return self.mixer(*torch.utils.data.default_collate(samples))


@contextmanager
def paribus_loader(task: InputTask, source: ImageArrays | ImageTree, workers: int = 0) -> Iterator[Iterator[Pair]]:
    """InMemoryLoader, or the image set in its folder form; CutMix as the transform of a recipe."""
    place = DeviceContext(task.device, memory_format=torch.channels_last)
    loader: Any
    if isinstance(source, ImageArrays):
        crop = ResizedCrop(size=task.size) if task.crop == "resized" else PadCrop(pad=PAD if task.crop == "pad" else 0)
        input_spec = InputSpec(MEAN, STD, crop, flip=task.crop != "none")
        images = torch.from_numpy(source.images)
        data = Images(images, torch.tensor(list(source.labels)), torch.arange(len(source)))
        loader = InMemoryLoader(data, input_spec, source.classes, place, task.batch, 0)
    else:
        sets = ImageSet(name="folder", root=str(source.root), form="folder", size=task.size, workers=workers)(place)
        loader = sets.loader(task.batch, 0)
    try:
        yield _iterate_steps(loader, CutMix() if task.cutmix else None)
    finally:
        if hasattr(loader, "close"):
            loader.close()


def _iterate_steps(loader: Loader, mix: CutMix | None) -> Iterator[Pair]:
    step = 0
    while True:
        batch = loader.batch(step)
        if mix is not None:
            batch = mix(batch, Progress(step, 1 << 30, 0, loader.steps_per_epoch))
        yield batch.inputs, batch.targets
        step += 1


@dataclass(frozen=True)
class TorchvisionLoader:
    """Transforms each image in DataLoader's workers. api: v1 on PIL images; v2 on tensors."""

    api: Literal["v1", "v2"]
    workers: int

    @contextmanager
    def __call__(self, task: InputTask, source: ImageArrays | ImageTree) -> Iterator[Iterator[Pair]]:
        require_package("torchvision")
        transform = self._v1(task) if self.api == "v1" else self._v2(task)
        dataset: Any
        if isinstance(source, ImageTree):
            from torchvision.datasets import ImageFolder

            dataset, classes = ImageFolder(str(source.root / "train"), transform), 0
        else:
            dataset, classes = ArrayDataset(source, transform, pil=self.api == "v1"), source.classes
        collate = None
        if task.cutmix:
            from torchvision.transforms import v2

            collate = MixingCollate(v2.CutMix(alpha=1.0, num_classes=classes))
        with _worker_warnings_ignored():
            loader = DataLoader(
                dataset,
                task.batch,
                shuffle=True,
                num_workers=self.workers,
                drop_last=True,
                collate_fn=collate,
                persistent_workers=self.workers > 0,
                pin_memory=task.device.type == "cuda",
            )
        with _endless_batches(loader, self.workers, task.device) as batches:
            yield batches

    def _v1(self, task: InputTask) -> Any:
        from torchvision.transforms import transforms as v1

        crops: dict[Crop, list[Any]] = {
            "pad": [v1.RandomCrop(task.size, padding=PAD), v1.RandomHorizontalFlip()],
            "resized": [v1.RandomResizedCrop(task.size), v1.RandomHorizontalFlip()],
            "none": [],
        }
        return v1.Compose([*crops[task.crop], v1.ToTensor(), v1.Normalize(MEAN, STD)])

    def _v2(self, task: InputTask) -> Any:
        from torchvision.transforms import v2

        crops: dict[Crop, list[Any]] = {
            "pad": [v2.RandomCrop(task.size, padding=PAD), v2.RandomHorizontalFlip()],
            "resized": [v2.RandomResizedCrop(task.size, antialias=True), v2.RandomHorizontalFlip()],
            "none": [],
        }
        last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        return v2.Compose([v2.ToImage(), *crops[task.crop], *last, v2.ToPureTensor()])


@dataclass(frozen=True)
class TimmLoader:
    """timm.data.create_loader as its training script calls it: uint8 from the workers, normalised by the prefetcher."""

    workers: int

    @contextmanager
    def __call__(self, task: InputTask, source: ImageArrays | ImageTree) -> Iterator[Iterator[Pair]]:
        require_package("timm")
        from timm.data.dataset import ImageDataset
        from timm.data.loader import create_loader
        from timm.data.mixup import Mixup
        from torchvision.transforms import RandomCrop

        dataset: Any = (
            ArrayDataset(source) if isinstance(source, ImageArrays) else ImageDataset(str(source.root / "train"))
        )
        with _worker_warnings_ignored():
            loader: Any = create_loader(
                dataset,
                input_size=(3, task.size, task.size),
                batch_size=task.batch,
                is_training=True,
                no_aug=task.crop == "none",
                color_jitter=0.0,
                interpolation="bilinear",
                mean=MEAN,
                std=STD,
                num_workers=self.workers,
                pin_memory=task.device.type == "cuda",
                device=task.device,
            )
        if task.crop == "pad":  # what DeiT's script does for CIFAR
            dataset.transform.transforms[0] = RandomCrop(task.size, padding=PAD)
        mixup: Any = None
        if task.cutmix:
            classes = source.classes if isinstance(source, ImageArrays) else len(dataset.reader.class_to_idx)
            mixup = Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=classes)
        with _endless_batches(loader, self.workers, task.device, mixup) as batches:
            yield batches


@contextmanager
def _worker_warnings_ignored() -> Iterator[None]:
    """DataLoader warns about more workers than cores, which is what is measured here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _endless_batches(loader: Any, workers: int, device: torch.device, mix: Any = None) -> Iterator[Iterator[Pair]]:
    """Endless batches. Its workers stop with this context, so that none runs while others are timed."""

    def repeat_epochs() -> Generator[Pair, None, None]:
        while True:
            running = iter(loader)
            with _worker_warnings_ignored():  # workers start with the first batch
                first = next(running)
            for inputs, targets in chain((first,), running):
                pair = inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
                yield pair if mix is None else mix(*pair)

    endless_batches = repeat_epochs()
    try:
        yield endless_batches
    finally:
        endless_batches.close()
        inner = getattr(loader, "loader", loader)  # timm wraps DataLoader
        with_workers = getattr(inner, "_iterator", None)
        if with_workers is not None and workers:
            with_workers._shutdown_workers()
            inner._iterator = None


@dataclass
class FeedHandle:
    """The currently open feed; `call` takes a batch from it."""

    open: Callable[[], AbstractContextManager[Iterator[Pair]]]
    prefetched: int  # batches that workers may have ready, discarded before timing starts
    feed: list[Iterator[Pair]] = field(default_factory=list)

    def call(self) -> Pair:
        return next(self.feed[-1])

    @contextmanager
    def session(self) -> Iterator[None]:
        """The feed, warm: what its workers had prefetched before timing starts is used up."""
        with self.open() as feed, contextlib.ExitStack() as stack:
            self.feed.append(feed)
            stack.callback(self.feed.pop)
            for _ in range(self.prefetched + 1):
                next(feed)
            yield
