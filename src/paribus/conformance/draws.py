"""What a transform's random numbers may depend on: the run's seed, the progress and the sample, and nothing else.

Each transform of the recipe is tried alone, on batches of the recipe's own loader. No training.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paribus.conformance.findings import NotApplicable, require
from paribus.conformance.trainings import Trial
from paribus.core import streams
from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.core.protocols import DeviceContext, Loader, Transform
from paribus.engine.distributed import World
from paribus.recipe.build import build_loader, build_transforms, make_device_context
from paribus.recipe.recipe import Recipe

_TOTAL = 60
_STEPS = range(0, _TOTAL, 11)  # early and late, for a technique that is on in a part of the training alone
_PROCESSES = 2
_DRAW = "draw with paribus.core.streams.uniform(at.seed, NAME, at.epoch, batch.ids, k)"


def check_global_generators(subject: Trial, scratch: Path) -> str:
    recipe = subject.recipe()
    transforms, loader = _transforms(recipe), _loader(recipe)
    for step in _STEPS:
        batch, at = loader.batch(step), _progress(loader, recipe.seed, step)
        for name, transform in transforms.items():
            with _global_generators(1):
                one = transform(batch, at)
            with _global_generators(2):
                other = transform(batch, at)
            part = _first_difference(one, other)
            require(
                not part,
                f"transforms.{name} called twice with one batch gave other {part}, once the global generators of "
                f"torch, Python and NumPy had other seeds; {_DRAW}",
            )
    return f"{', '.join(transforms)}: the same bits, however torch's, Python's and NumPy's are seeded"


def check_division(subject: Trial, scratch: Path) -> str:
    recipe = subject.recipe()
    transforms = _transforms(recipe, torch.float64)
    if recipe.batch_size % _PROCESSES:
        raise NotApplicable(f"a batch of {recipe.batch_size} cannot be divided among {_PROCESSES} processes")
    whole_loader = _loader(recipe, torch.float64)
    loaders = [_loader(recipe, torch.float64, World(rank, _PROCESSES)) for rank in range(_PROCESSES)]
    for step in _STEPS:
        at = _progress(whole_loader, recipe.seed, step)
        whole, parts = whole_loader.batch(step), [loader.batch(step) for loader in loaders]
        if any(_part_differs(whole, part) for part in parts):
            raise NotApplicable("the loader itself gives two processes other samples than one")
        for name, transform in transforms.items():
            expected = transform(whole, at)
            for part in parts:
                after = transform(part, at)
                require(
                    after.fetch is not None,
                    f"transforms.{name} made a batch that has lost its fetch; use dataclasses.replace(batch, ...)",
                )
                differs = _part_differs(expected, after)
                require(
                    not differs,
                    f"with the batch divided among {_PROCESSES} processes, transforms.{name} gave other {differs}; "
                    "draw by batch.ids, and take other samples, or numbers about the whole batch, from batch.peers",
                )
                differs = _part_differs(expected, after.peers(torch.arange(whole.size)))
                require(
                    not differs,
                    f"what the next transform gets from batch.peers lacks transforms.{name} (other {differs}), if "
                    "another process has it; return batch.apply(lambda part: ...)",
                )
    return f"{', '.join(transforms)}: the same on {_PROCESSES} processes as on one"


def check_run_seed(subject: Trial, scratch: Path) -> str:
    recipe = subject.recipe()
    transforms, loader = _transforms(recipe), _loader(recipe)
    moved: list[str] = []
    for name, transform in transforms.items():
        differs, asked = _follows_seed(transform, loader, recipe.seed)
        require(
            differs or not asked,
            f"transforms.{name} draws the same numbers in runs of other seeds; give the stream at.seed: {_DRAW}",
        )
        moved += [name] if differs else []
    if not moved:
        raise NotApplicable(f"{', '.join(transforms)}: asks for no random stream, the same with every seed")
    return f"{', '.join(moved)}: another seed, other numbers"


def _follows_seed(transform: Transform, loader: Loader, seed: int) -> tuple[bool, bool]:
    """Whether another seed of the run gives another result at any step, and whether a stream was asked for."""
    has_drawn = False
    for step in _STEPS:
        batch = loader.batch(step)
        with _global_generators(1), _count_streams() as counts:
            one, other = (transform(batch, _progress(loader, run, step)) for run in (seed, seed + 1))
        has_drawn |= counts[0] > 0
        if _first_difference(one, other):
            return True, has_drawn
    return False, has_drawn


def _transforms(recipe: Recipe, dtype: torch.dtype | None = None) -> Mapping[str, Transform]:
    place = _place(recipe, dtype)
    transforms = build_transforms(recipe, recipe.data(place), place)
    if not transforms:
        raise NotApplicable("there is no transform")
    return transforms


def _loader(recipe: Recipe, dtype: torch.dtype | None = None, world: World | None = None) -> Loader:
    """The recipe's training loader, of one process."""
    place = _place(recipe, dtype, world)
    return build_loader(recipe, recipe.data(place), place)


def _place(recipe: Recipe, dtype: torch.dtype | None, world: World | None = None) -> DeviceContext:
    """The CPU. dtype: of inputs; None: the recipe's."""
    place = make_device_context(recipe, torch.device("cpu"), world or World())
    return replace(place, dtype=dtype or place.dtype)


def _progress(loader: Loader, seed: int, step: int) -> Progress:
    return Progress(step, _TOTAL, seed, loader.steps_per_epoch)


def _first_difference(one: Batch, other: Batch) -> str:
    """In a word; "" if images and targets are equal to the bit."""
    if not torch.equal(one.inputs, other.inputs):
        return "images"
    return "" if torch.equal(one.targets, other.targets) else "targets"


def _part_differs(whole: Batch, part: Batch) -> str:
    """Where a part of a global batch is not what the whole of it has there, but for rounding in float64; "" nowhere."""
    pairs = {"samples": (whole.ids, part.ids), "images": (whole.inputs, part.inputs)}
    pairs["targets"] = (whole.targets, part.targets)
    return next((word for word, (a, b) in pairs.items() if not _is_close(a[part.positions], b)), "")


def _is_close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.allclose(one, other, rtol=1e-9, atol=1e-11, equal_nan=True)


@contextmanager
def _global_generators(seed: int) -> Iterator[None]:
    """With the global generators of torch, Python and NumPy seeded; afterwards they are as they were."""
    torch_state, python_state, numpy_state = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def _count_streams() -> Iterator[list[int]]:
    """A list of one number: how often a named stream was asked for. Every one of them comes from this hash."""
    counts, hash_bytes = [0], streams._hash_bytes

    def counted(*args: Any) -> bytes:
        counts[0] += 1
        return hash_bytes(*args)

    streams._hash_bytes = counted
    try:
        yield counts
    finally:
        streams._hash_bytes = hash_bytes
