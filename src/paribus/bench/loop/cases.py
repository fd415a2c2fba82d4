"""The training loop against the bare step of the same network: how much of its rate the loop keeps.

The loop is the real one, with its loader and its log. Between slices of its steps, where it requests the next batch,
the bare step is timed for a slice of its own: so both see the same machine, and neither is modified.
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

from paribus.bench.harness.implementation import Case, SpeedTarget, version
from paribus.bench.harness.measure import Measurement, Result
from paribus.bench.harness.timing import Call, make_clock
from paribus.bench.loop.stages import PARTS, StageTimer, TimedLoader, TimedTracker
from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.core.protocols import Loader, Method, Schedule, Tracker
from paribus.engine.loop import RunSettings, train
from paribus.engine.stop import StopRequest

LOOP, BARE, MIXING = "paribus.engine.loop.train", "the bare step", "CutMix"
CHECKED_STEPS = 2
TOLERANCE = 0.02  # relative, of the weights' change; on a CPU without compile the two are bit-exact
WARM_UP = 2  # slices
MAX_STEPS = 500  # of a slice


@dataclass(frozen=True)
class PlainTraining:
    """A training step without a library: `model` as it is called (perhaps compiled), its optimizer, one step."""

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
    """Built anew for each measurement, for runs of `run(folder).total` steps.

    loader: as `paribus train` uses it. data: the loader that it wraps, for the check. weights: of the method's network.
    plain: the same network with the same weights, in plain PyTorch. schedule: of the learning rate.
    """

    run: Callable[[Path], RunSettings]
    method: Method
    loader: Loader
    data: Loader
    weights: Callable[[], list[Tensor]]
    plain: PlainTraining
    schedule: Schedule
    tracker: Callable[[Path], Tracker]
    stages: StageTimer | None = None


@dataclass(frozen=True)
class Subject:
    """A recipe to be measured. make: takes the number of steps, and the timer of its parts or None."""

    title: str
    description: str
    batch: int
    device: torch.device
    at_least: float  # of the bare step's rate; from 0.99, the net is large enough for CutMix's target too
    make: Callable[[int, StageTimer | None], Training]


@dataclass(frozen=True)
class LoopTiming:
    """Seconds per step, one entry per round. parts: the same for the timed parts; empty if they are not timed."""

    loop: tuple[float, ...]
    bare: tuple[float, ...]
    parts: Mapping[str, tuple[float, ...]]


def measure_difference(subject: Subject) -> float:
    """The relative difference between the loop's change of the weights and that of the same steps in plain PyTorch."""
    training = subject.make(CHECKED_STEPS, None)
    start = [w.detach().clone() for w in training.weights()]
    lrs = [group["lr"] for group in training.plain.optimizer.param_groups]
    for step in range(CHECKED_STEPS):
        at = Progress(step, CHECKED_STEPS, 0, training.data.steps_per_epoch)
        for group, lr in zip(training.plain.optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr * training.schedule(at)
        training.plain.step(training.data.batch(step))
    with tempfile.TemporaryDirectory(prefix="paribus-bench-") as folder:
        _run_training(training, Path(folder), training.loader)
    pairs = zip(start, training.weights(), training.plain.model.parameters(), strict=True)
    moves = [(loop_weight - before, plain - before) for before, loop_weight, plain in pairs]
    off = math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in moves))
    return off / math.sqrt(sum(float(b.detach().square().sum()) for _, b in moves))


def _run_training(training: Training, folder: Path, loader: Loader) -> None:
    run, tracker = training.run(folder), training.tracker(folder)
    if training.stages is not None:
        tracker = TimedTracker(training.stages, tracker)
    train(run, training.method, loader, lambda *_: {}, tracker, StopRequest(), None)
    tracker.close({})


class InterleavingLoader:
    """A loader that runs the bare step before every slice of `size` steps, and records the times."""

    def __init__(self, loader: Loader, bare: Call, size: int, device: torch.device, stages: StageTimer | None) -> None:
        self._loader, self._bare, self._size, self._stages = loader, bare, size, stages
        self._clock, self._now = make_clock(device), StageTimer(device).read_clock
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
                self.parts.append({part: s / self._size for part, s in self._stages.pop_seconds().items()})
            self._since = self._now()
        return self._loader.batch(step)


def time_loop(subject: Subject, rounds: int, min_seconds: float, watched: bool = False) -> LoopTiming:
    """Train, in turns with the bare step, for `rounds` rounds of slices that last `min_seconds` or more.

    watched: also time the loop's parts, which costs a little time, and on CUDA all overlap.
    """
    size = _choose_slice_steps(subject, min_seconds)
    training = subject.make((WARM_UP + rounds) * size + 1, StageTimer(subject.device) if watched else None)
    batch = training.data.batch(0)
    loader = training.loader if training.stages is None else TimedLoader(training.stages, training.loader)
    turns = InterleavingLoader(loader, lambda: training.plain.step(batch), size, subject.device, training.stages)
    with tempfile.TemporaryDirectory(prefix="paribus-bench-") as folder:
        _run_training(training, Path(folder), turns)
    parts = turns.parts[1:][WARM_UP:]  # the first was before any step
    return LoopTiming(
        tuple(turns.loop[WARM_UP:]),
        tuple(turns.bare[WARM_UP:-1]),  # a slice of the loop and the bare one before it are a round
        {part: tuple(p[part] for p in parts) for part in PARTS} if parts else {},
    )


def _choose_slice_steps(subject: Subject, min_seconds: float) -> int:
    """Steps that last `min_seconds`; if many, a multiple of the log interval, so that each slice logs as many lines."""
    training = subject.make(1, None)
    batch = training.data.batch(0)
    clock = make_clock(subject.device)
    clock(lambda: training.plain.step(batch), 3)
    steps = min(MAX_STEPS, math.ceil(min_seconds / max(clock(lambda: training.plain.step(batch), 1), 1e-6)))
    log = training.run(Path()).every.log
    return steps if steps < log else math.ceil(steps / log) * log


def measure_loop(subject: Subject, rounds: int, min_seconds: float) -> Result:
    """The loop and the bare step as rows of a case; a loop that does not train like the plain steps is not timed."""
    case = Case(
        "loop",
        subject.title,
        work=subject.description,
        truth=f"weights after {CHECKED_STEPS} steps, moved as the same steps in plain PyTorch move them (relative)",
        tolerance=TOLERANCE,
        implementations=(),
        baseline=BARE,
        targets=(
            SpeedTarget(LOOP, BARE, 1 / subject.at_least, f"at least {subject.at_least:.0%} of the bare step's rate"),
        ),
        samples=subject.batch,
    )
    error = measure_difference(subject)
    is_correct = error <= TOLERANCE
    timing = time_loop(subject, rounds, min_seconds) if is_correct else LoopTiming((), (), {})
    return Result(
        case,
        (
            Measurement(
                LOOP, "paribus", "ours", version("paribus"), "measured" if is_correct else "wrong", error, timing.loop
            ),
            Measurement(
                BARE, "torch", "floor", version("torch"), "measured", None, timing.bare, note="one fixed batch"
            ),
        ),
    )


def build_mixing_result(subject: Subject, timing: LoopTiming) -> Result:
    """CutMix's own time, from the timed transforms, beside the bare step's."""
    case = Case(
        "cutmix",
        f"CutMix's own time in the loop, {subject.title}",
        work="What the transforms of a step take, drawing the boxes included, beside the bare step.",
        truth="not asked here; `paribus bench techniques cutmix` checks it",
        tolerance=0.0,
        implementations=(),
        baseline=BARE,
        targets=(SpeedTarget(MIXING, BARE, 0.01, "at most 1 % of the bare step"),) if subject.at_least >= 0.99 else (),
        samples=subject.batch,
    )
    return Result(
        case,
        (
            Measurement(MIXING, "paribus", "ours", version("paribus"), "measured", None, timing.parts["transforms"]),
            Measurement(BARE, "torch", "floor", version("torch"), "measured", None, timing.bare),
        ),
    )


def compute_shares(timing: LoopTiming) -> dict[str, float]:
    """Median seconds per step in each part, in the rest, and in total."""
    parts = {part: statistics.median(seconds) for part, seconds in timing.parts.items()}
    whole = statistics.median(timing.loop)
    rest = statistics.median(w - sum(each) for w, *each in zip(timing.loop, *timing.parts.values(), strict=True))
    return {**parts, "rest": rest, "whole": whole}
