"""Which comparisons of training input there are: CIFAR's, the same with CutMix, packed images, and JPEG files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from paribus.bench.data.checks import N, box_error, mix_error, noise, rulers, window_error
from paribus.bench.data.pipelines import Arrays, Held, Open, Task, Timm, Torchvision, Tree, ours
from paribus.bench.harness.implementation import Case, Contender, Prepared, Scope, Target, version
from paribus.core.streams import stream

WORKERS = (0, 2, 4)
RATE = "`images/s` of batches taken one after another; workers are warm, and what they made ahead is used up first."
EXACT, LEVELS, JPEG = 1e-4, 2.0, 8.0  # tolerances: of normalised values; in grey levels; the same through JPEG
Source = Arrays | Tree
Check = Callable[[Open, Task], float]


def prepared(open_: Open, task: Task, source: Source, check: Check, ahead: int, note: str = "") -> Prepared:
    """A feed, checked on images made for it, then timed on the source's."""
    held = Held(lambda: open_(task, source), ahead)
    return Prepared(lambda: check(open_, task), held.call, note, held.session, fewest=1 + 4 * ahead)


def windows(open_: Open, task: Task) -> float:
    """Of a feed of padded crops, with CutMix or without."""
    small, images = replace(task, batch=N // 2, cutmix=False), noise(task.size)
    with open_(small, images) as feed:
        error = window_error(feed, small, images)
    if not task.cutmix:
        return error
    mixing = replace(small, crop="none", cutmix=True)
    with open_(mixing, images) as feed:
        return max(error, mix_error(feed, mixing, images))


def boxes(open_: Open, task: Task, side: int) -> float:
    """Of a feed of resized crops from images in memory."""
    small, images = replace(task, batch=N // 2), rulers(side)
    with open_(small, images) as feed:
        return box_error(feed, small, images)


def boxes_of_files(open_: Open, task: Task, side: int) -> float:
    """Of a feed of resized crops from JPEG files, a class each."""
    small, images = replace(task, batch=N // 2), rulers(side)
    with TemporaryDirectory(prefix="paribus-bench-") as folder:
        for split in ("train", "val"):
            for pixels, label in zip(images.images, images.labels, strict=True):
                path = Path(folder) / split / f"class_{label:03d}"
                path.mkdir(parents=True)
                Image.fromarray(pixels).save(path / "ruler.JPEG", quality=100, subsampling=0)
        with open_(small, Tree(Path(folder))) as feed:
            return box_error(feed, small, images)


def contenders(task: Task, source: Source, check: Check, ours_workers: tuple[int, ...]) -> Iterator[Contender]:
    def entry(name: str, package: str, open_: Open, workers: int, note: str = "") -> Contender:
        ahead = 2 * workers  # DataLoader's own prefetch_factor
        kind = "ours" if package == "paribus" else "public"
        return Contender(name, package, lambda: prepared(open_, task, source, check, ahead, note), kind)

    for workers in ours_workers:
        name = f"paribus, {workers} workers" if isinstance(source, Tree) else "paribus"
        yield entry(name, "paribus", partial(ours, workers=workers), workers, "on the device, channels_last")
    for workers in WORKERS:
        for api in ("v1", "v2"):
            name = f"torchvision {api} + DataLoader, {workers} workers"
            yield entry(name, "torchvision", Torchvision(api, workers), workers)
        yield entry(f"timm create_loader, {workers} workers", "timm", Timm(workers), workers)


def _case(
    title: str, work: str, truth: str, tolerance: float, parts: list[Contender], task: Task, faster: float
) -> Case:
    subject = next(c.name for c in reversed(parts) if c.kind == "ours")
    target = Target(subject, None, 1 / faster, f"at least {faster:g} times as fast as the fastest public one")
    return Case("data", title, f"{work} {RATE}", truth, tolerance, tuple(parts), None, (target,), task.batch)


def cifar(scope: Scope, cutmix: bool) -> Case:
    source, words = cifar10()
    task = Task("pad", 32, 128, scope.device, cutmix)
    return _case(
        f"CIFAR{' with CutMix' if cutmix else ''}, 32 px, batch 128",
        f"{words}: a window after padding by 4, a mirror image half of the time, float32, normalised"
        f"{', CutMix on every batch' if cutmix else ''}.",
        "normalised values against the window (or the mixture) that the input shows, the largest difference",
        EXACT,
        list(contenders(task, source, windows, (0,))),
        task,
        20,
    )


def packed(scope: Scope) -> Case:
    pixels = torch.randint(0, 256, (2048, 160, 160, 3), generator=stream(0, "bench pack"), dtype=torch.uint8)
    source = Arrays(pixels.numpy(), [k % 10 for k in range(len(pixels))], 10)
    task = Task("resized", 128, 64, scope.device)
    return _case(
        "Packed images of 160 px, random-resized-crop to 128 px, batch 64",
        f"{len(pixels):,} made-up images in memory as uint8: a random box resized (bilinear, antialiased), a mirror "
        "image half of the time, float32, normalised.",
        "grey levels against those of the box that the input shows, the largest difference",
        LEVELS,
        list(contenders(task, source, partial(boxes, side=160), (0,))),
        task,
        5,
    )


def files(scope: Scope, root: Path) -> Case:
    task = Task("resized", 128, 64, scope.device)
    return _case(
        "JPEG files, random-resized-crop to 128 px, batch 64",
        f"The files of {root.name}/train, decoded for every batch: as above.",
        "grey levels against those of the box that the input shows, the largest difference",
        JPEG,
        list(contenders(task, Tree(root), partial(boxes_of_files, side=160), (0, 2))),
        task,
        1.2,
    )


def cifar10() -> tuple[Arrays, str]:
    """The real training set from PARIBUS_DATA or ./data, else made-up pixels of its shape; and which it is."""
    root = Path(os.environ.get("PARIBUS_DATA") or "data")
    if (root / "cifar-10-batches-py").is_dir() and version("torchvision") is not None:
        from torchvision.datasets import CIFAR10

        real = CIFAR10(str(root))  # compares the files' checksums before it unpickles them
        return Arrays(real.data, real.targets, 10), "CIFAR-10"
    pixels = torch.randint(0, 256, (50_000, 32, 32, 3), generator=stream(0, "bench cifar"), dtype=torch.uint8)
    return Arrays(pixels.numpy(), [k % 10 for k in range(50_000)], 10), "Made-up pixels in CIFAR-10's shape"


def tree(root: Path | None) -> Path | None:
    """The folder case's files: what was asked for, or the part of Imagenette that PARIBUS_DATA may hold."""
    known = Path(os.environ.get("PARIBUS_DATA") or "data") / "imagenette160-sub"
    return root or (known if (known / "train").is_dir() else None)


def cases(scope: Scope, root: Path | None) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Titles, and the cases, which are made when they are called: their images are large."""
    yield "CIFAR", partial(cifar, scope, False)
    if scope.quick:
        return
    yield "CIFAR with CutMix", partial(cifar, scope, True)
    yield "Packed images", partial(packed, scope)
    if (found := tree(root)) is not None:
        yield "JPEG files", partial(files, scope, found)
