"""The comparisons of training input: CIFAR, CIFAR with CutMix, packed images, and JPEG files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from paribus.bench.data.checks import N, box_error, make_noise_images, make_ruler_images, mix_error, window_error
from paribus.bench.data.pipelines import (
    FeedHandle,
    ImageArrays,
    ImageTree,
    InputTask,
    OpenFeed,
    TimmLoader,
    TorchvisionLoader,
    paribus_loader,
)
from paribus.bench.harness.implementation import (
    Case,
    Implementation,
    PreparedImplementation,
    Scope,
    SpeedTarget,
    version,
)
from paribus.core.streams import stream

WORKERS = (0, 2, 4)
RATE = "`images/s` of batches taken one after another; workers are warm, and what they made ahead is used up first."
EXACT, LEVELS, JPEG = 1e-4, 2.0, 8.0  # tolerances: of normalised values; in grey levels; the same through JPEG
Source = ImageArrays | ImageTree
Check = Callable[[OpenFeed, InputTask], float]


def prepare_feed(
    open_feed: OpenFeed, task: InputTask, source: Source, check: Check, prefetched: int, note: str = ""
) -> PreparedImplementation:
    """A feed, checked on images made for the check, then timed on the source's."""
    handle = FeedHandle(lambda: open_feed(task, source), prefetched)
    return PreparedImplementation(
        lambda: check(open_feed, task), handle.call, note, handle.session, min_calls=1 + 4 * prefetched
    )


def check_windows(open_feed: OpenFeed, task: InputTask) -> float:
    """The error of a feed of padded crops, with CutMix or without."""
    small, images = replace(task, batch=N // 2, cutmix=False), make_noise_images(task.size)
    with open_feed(small, images) as feed:
        error = window_error(feed, small, images)
    if not task.cutmix:
        return error
    mixing = replace(small, crop="none", cutmix=True)
    with open_feed(mixing, images) as feed:
        return max(error, mix_error(feed, mixing, images))


def check_boxes(open_feed: OpenFeed, task: InputTask, side: int) -> float:
    """The error of a feed of resized crops from images in memory."""
    small, images = replace(task, batch=N // 2), make_ruler_images(side)
    with open_feed(small, images) as feed:
        return box_error(feed, small, images)


def check_boxes_of_files(open_feed: OpenFeed, task: InputTask, side: int) -> float:
    """The error of a feed of resized crops from JPEG files, each its own class."""
    small, images = replace(task, batch=N // 2), make_ruler_images(side)
    with TemporaryDirectory(prefix="paribus-bench-") as folder:
        for split in ("train", "val"):
            for pixels, label in zip(images.images, images.labels, strict=True):
                path = Path(folder) / split / f"class_{label:03d}"
                path.mkdir(parents=True)
                Image.fromarray(pixels).save(path / "ruler.JPEG", quality=100, subsampling=0)
        with open_feed(small, ImageTree(Path(folder))) as feed:
            return box_error(feed, small, images)


def make_implementations(
    task: InputTask, source: Source, check: Check, paribus_workers: tuple[int, ...]
) -> Iterator[Implementation]:
    def make_implementation(
        name: str, package: str, open_feed: OpenFeed, workers: int, note: str = ""
    ) -> Implementation:
        prefetched = 2 * workers  # DataLoader's own prefetch_factor
        kind = "ours" if package == "paribus" else "public"
        return Implementation(
            name, package, lambda: prepare_feed(open_feed, task, source, check, prefetched, note), kind
        )

    for workers in paribus_workers:
        name = f"paribus, {workers} workers" if isinstance(source, ImageTree) else "paribus"
        yield make_implementation(
            name, "paribus", partial(paribus_loader, workers=workers), workers, "on the device, channels_last"
        )
    for workers in WORKERS:
        for api in ("v1", "v2"):
            name = f"torchvision {api} + DataLoader, {workers} workers"
            yield make_implementation(name, "torchvision", TorchvisionLoader(api, workers), workers)
        yield make_implementation(f"timm create_loader, {workers} workers", "timm", TimmLoader(workers), workers)


def _make_case(
    title: str,
    work: str,
    truth: str,
    tolerance: float,
    implementations: list[Implementation],
    task: InputTask,
    min_speedup: float,
) -> Case:
    subject = next(c.name for c in reversed(implementations) if c.kind == "ours")
    target = SpeedTarget(
        subject, None, 1 / min_speedup, f"at least {min_speedup:g} times as fast as the fastest public one"
    )
    return Case("data", title, f"{work} {RATE}", truth, tolerance, tuple(implementations), None, (target,), task.batch)


def make_cifar_case(scope: Scope, cutmix: bool) -> Case:
    source, words = load_cifar10()
    task = InputTask("pad", 32, 128, scope.device, cutmix)
    return _make_case(
        f"CIFAR{' with CutMix' if cutmix else ''}, 32 px, batch 128",
        f"{words}: a window after padding by 4, a mirror image half of the time, float32, normalised"
        f"{', CutMix on every batch' if cutmix else ''}.",
        "normalised values against the window (or the mixture) that the input shows, the largest difference",
        EXACT,
        list(make_implementations(task, source, check_windows, (0,))),
        task,
        20,
    )


def make_packed_case(scope: Scope) -> Case:
    pixels = torch.randint(0, 256, (2048, 160, 160, 3), generator=stream(0, "bench pack"), dtype=torch.uint8)
    source = ImageArrays(pixels.numpy(), [k % 10 for k in range(len(pixels))], 10)
    task = InputTask("resized", 128, 64, scope.device)
    return _make_case(
        "Packed images of 160 px, random-resized-crop to 128 px, batch 64",
        f"{len(pixels):,} made-up images in memory as uint8: a random box resized (bilinear, antialiased), a mirror "
        "image half of the time, float32, normalised.",
        "grey levels against those of the box that the input shows, the largest difference",
        LEVELS,
        list(make_implementations(task, source, partial(check_boxes, side=160), (0,))),
        task,
        5,
    )


def make_files_case(scope: Scope, root: Path) -> Case:
    task = InputTask("resized", 128, 64, scope.device)
    return _make_case(
        "JPEG files, random-resized-crop to 128 px, batch 64",
        f"The files of {root.name}/train, decoded for every batch: as above.",
        "grey levels against those of the box that the input shows, the largest difference",
        JPEG,
        list(make_implementations(task, ImageTree(root), partial(check_boxes_of_files, side=160), (0, 2))),
        task,
        1.2,
    )


def load_cifar10() -> tuple[ImageArrays, str]:
    """The real training set from PARIBUS_DATA or ./data, else synthetic pixels of its shape; and which it is."""
    root = Path(os.environ.get("PARIBUS_DATA") or "data")
    if (root / "cifar-10-batches-py").is_dir() and version("torchvision") is not None:
        from torchvision.datasets import CIFAR10

        real = CIFAR10(str(root))  # verifies the files' checksums before it unpickles them
        return ImageArrays(real.data, real.targets, 10), "CIFAR-10"
    pixels = torch.randint(0, 256, (50_000, 32, 32, 3), generator=stream(0, "bench cifar"), dtype=torch.uint8)
    return ImageArrays(pixels.numpy(), [k % 10 for k in range(50_000)], 10), "Made-up pixels in CIFAR-10's shape"


def find_image_tree(root: Path | None) -> Path | None:
    """The files of the folder case: the requested ones, or the part of Imagenette that PARIBUS_DATA may hold."""
    known = Path(os.environ.get("PARIBUS_DATA") or "data") / "imagenette160-sub"
    return root or (known if (known / "train").is_dir() else None)


def cases(scope: Scope, root: Path | None) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Titles, and functions that make the cases: their images are large."""
    yield "CIFAR", partial(make_cifar_case, scope, False)
    if scope.quick:
        return
    yield "CIFAR with CutMix", partial(make_cifar_case, scope, True)
    yield "Packed images", partial(make_packed_case, scope)
    if (found := find_image_tree(root)) is not None:
        yield "JPEG files", partial(make_files_case, scope, found)
