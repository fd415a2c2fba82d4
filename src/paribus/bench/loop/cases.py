"""The training loop beside the bare step of the same network: how much of the machine's rate the loop leaves.

The loop is the real one, with its loader and its record. Between slices of its steps, where it asks for the next batch,
the bare step has a slice of its own: so both see the same machine, and neither is touched for the purpose.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.bench.harness.implementation import Case, Target, version
from paribus.bench.harness.measure import Result, Row
from paribus.bench.harness.timing import Call, clock_of
from paribus.bench.loop.stages import PARTS, Stages, TimedLoader, TimedTracker
from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.core.protocols import Loader, Method, Schedule, Tracker
from paribus.engine.loop import Run, train
from paribus.engine.stop import StopRequest

LOOP, BARE, MIXING = "paribus.engine.loop.train", "the bare step", "CutMix"
CHECKED_STEPS = 2
TOLERANCE = 0.02  # relative, of the weights' move; on a CPU without compile the two are equal bit for bit
WARM_UP = 2  # slices
MOST_STEPS = 500  # of a slice


@dataclass(frozen=True)
class Plain:
    """What a person writes without a library: `model` as it is called (perhaps compiled), its optimizer, one step."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    autocast: Callable[[], AbstractContextManager[object]]

    def step(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = F.cross_entropy(self.model(batch.inputs), batch.targets)
        loss.backward()
        self.optimizer.step()


@dataclass(frozen=True)
class Training:
    """Made anew for each measurement, for runs of `run(folder).total` steps.

    loader: as `paribus train` uses it. data: the loader that it was made from, for the check. weights: of the method's
    network. plain: the same network with the same weights, in plain PyTorch. schedule: of the learning rate.
    """

    run: Callable[[Path], Run]
    method: Method
    loader: Loader
    data: Loader
    weights: Callable[[], list[Tensor]]
    plain: Plain
    schedule: Schedule
    tracker: Callable[[Path], Tracker]
    stages: Stages | None = None


@dataclass(frozen=True)
class Subject:
    """A recipe to be measured. make: for so many steps, its parts timed by these stages or not at all."""

    title: str
    words: str
    batch: int
    device: torch.device
    at_least: float  # of the bare step's rate; from 0.99 on, the net is large enough for CutMix's target too
    make: Callable[[int, Stages | None], Training]


@dataclass(frozen=True)
class Pace:
    """Seconds a step, one entry a round. parts: likewise, of the watched parts; empty if nothing watched."""

    loop: tuple[float, ...]
    bare: tuple[float, ...]
    parts: Mapping[str, tuple[float, ...]]


def difference(subject: Subject) -> float:
    """How far the loop moves the weights from where the same steps, written out plainly, move them; relative."""
    made = subject.make(CHECKED_STEPS, None)
    start = [w.detach().clone() for w in made.weights()]
    lrs = [group["lr"] for group in made.plain.optimizer.param_groups]
    for step in range(CHECKED_STEPS):
        at = Progress(step, CHECKED_STEPS, 0, made.data.steps_per_epoch)
        for group, lr in zip(made.plain.optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr * made.schedule(at)
        made.plain.step(made.data.batch(step))
    with tempfile.TemporaryDirectory(prefix="paribus-bench-") as folder:
        _train(made, Path(folder), made.loader)
    pairs = zip(start, made.weights(), made.plain.model.parameters(), strict=True)
    moves = [(mine - before, plain - before) for before, mine, plain in pairs]
    off = math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in moves))
    return off / math.sqrt(sum(float(b.detach().square().sum()) for _, b in moves))


def _train(made: Training, folder: Path, loader: Loader) -> None:
    run, tracker = made.run(folder), made.tracker(folder)
    if made.stages is not None:
        tracker = TimedTracker(made.stages, tracker)
    train(run, made.method, loader, dict, tracker, StopRequest(), None)
    tracker.close({})


class Turns:
    """A loader that lets the bare step have its turn before every slice of `size` steps, and keeps the times."""

    def __init__(self, loader: Loader, bare: Call, size: int, device: torch.device, stages: Stages | None) -> None:
        self._loader, self._bare, self._size, self._stages = loader, bare, size, stages
        self._clock, self._now = clock_of(device), Stages(device).now
        self._since: float | None = None
        self.loop: list[float] = []
        self.bare: list[float] = []
        self.parts: list[dict[str, float]] = []

    @property
    def steps_per_epoch(self) -> int:
        return self._loader.steps_per_epoch

    def batch(self, step: int) -> Batch:
        if step % self._size == 0:
            if self._since is not None:
                self.loop.append((self._now() - self._since) / self._size)
            self.bare.append(self._clock(self._bare, self._size) / self._size)
            if self._stages is not None:
                self.parts.append({part: s / self._size for part, s in self._stages.taken().items()})
            self._since = self._now()
        return self._loader.batch(step)


def pace(subject: Subject, rounds: int, least: float, watched: bool = False) -> Pace:
    """Train, with turns of the bare step, for so many rounds of slices that last `least` seconds or more.

    watched: also tell where the loop's time goes, which costs a little, and on CUDA all overlap.
    """
    size = _slice_of(subject, least)
    made = subject.make((WARM_UP + rounds) * size + 1, Stages(subject.device) if watched else None)
    batch = made.data.batch(0)
    loader = made.loader if made.stages is None else TimedLoader(made.stages, made.loader)
    turns = Turns(loader, lambda: made.plain.step(batch), size, subject.device, made.stages)
    with tempfile.TemporaryDirectory(prefix="paribus-bench-") as folder:
        _train(made, Path(folder), turns)
    parts = turns.parts[1:][WARM_UP:]  # the first was before any step
    return Pace(
        tuple(turns.loop[WARM_UP:]),
        tuple(turns.bare[WARM_UP:-1]),  # a slice of the loop and the bare one before it are a round
        {part: tuple(p[part] for p in parts) for part in PARTS} if parts else {},
    )


def _slice_of(subject: Subject, least: float) -> int:
    """Steps that last so long; where there are many, a multiple of the log's cadence: each slice has as many lines."""
    made = subject.make(1, None)
    batch = made.data.batch(0)
    clock = clock_of(subject.device)
    clock(lambda: made.plain.step(batch), 3)
    steps = min(MOST_STEPS, math.ceil(least / max(clock(lambda: made.plain.step(batch), 1), 1e-6)))
    log = made.run(Path()).every.log
    return steps if steps < log else math.ceil(steps / log) * log


def result_of(subject: Subject, rounds: int, least: float) -> Result:
    """The loop and the bare step as rows of a case; a loop that does not train as the plain steps do is not timed."""
    case = Case(
        "loop",
        subject.title,
        work=subject.words,
        truth=f"weights after {CHECKED_STEPS} steps, moved as the same steps in plain PyTorch move them (relative)",
        tolerance=TOLERANCE,
        contenders=(),
        baseline=BARE,
        targets=(Target(LOOP, BARE, 1 / subject.at_least, f"at least {subject.at_least:.0%} of the bare step's rate"),),
        samples=subject.batch,
    )
    error = difference(subject)
    right = error <= TOLERANCE
    found = pace(subject, rounds, least) if right else Pace((), (), {})
    return Result(
        case,
        (
            Row(LOOP, "paribus", "ours", version("paribus"), "measured" if right else "wrong", error, found.loop),
            Row(BARE, "torch", "floor", version("torch"), "measured", None, found.bare, note="one fixed batch"),
        ),
    )


def mixing_of(subject: Subject, found: Pace) -> Result:
    """CutMix's own time, of the watched transforms, beside the bare step's."""
    case = Case(
        "cutmix",
        f"CutMix's own time in the loop, {subject.title}",
        work="What the transforms of a step take, drawing the boxes included, beside the bare step.",
        truth="not asked here; `paribus bench techniques cutmix` checks it",
        tolerance=0.0,
        contenders=(),
        baseline=BARE,
        targets=(Target(MIXING, BARE, 0.01, "at most 1 % of the bare step"),) if subject.at_least >= 0.99 else (),
        samples=subject.batch,
    )
    return Result(
        case,
        (
            Row(MIXING, "paribus", "ours", version("paribus"), "measured", None, found.parts["transforms"]),
            Row(BARE, "torch", "floor", version("torch"), "measured", None, found.bare),
        ),
    )


def shares(found: Pace) -> dict[str, float]:
    """Median seconds a step in each part, in what is left over, and in all."""
    parts = {part: statistics.median(seconds) for part, seconds in found.parts.items()}
    whole = statistics.median(found.loop)
    rest = statistics.median(w - sum(each) for w, *each in zip(found.loop, *found.parts.values(), strict=True))
    return {**parts, "rest": rest, "whole": whole}
