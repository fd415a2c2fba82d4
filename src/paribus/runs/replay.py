"""Replays a span of a recorded run in a temporary folder and compares it with the record, for `paribus verify`.

Evaluations are repeated too: the metrics that a study takes are in the record, and in no receipt.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.protocols import Method
from paribus.engine import checkpoint, distributed, receipt
from paribus.engine.agreement import METRIC, Agreement, Key, Value, collect_values, compare_receipts, diff_fingerprints
from paribus.engine.checkpoint import Checkpoint
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.loop import Run
from paribus.engine.loop import train as train_loop
from paribus.engine.provenance import fingerprint, read_git_state
from paribus.engine.runtime import apply_runtime
from paribus.engine.stop import StopRequest
from paribus.recipe.build import (
    build_evaluators,
    build_loader,
    build_method,
    count_steps,
    explain_build_errors,
    make_device_context,
)
from paribus.recipe.recipe import Recipe
from paribus.runs.describe import describe_optimizer
from paribus.runs.recorded_run import (
    RecordedRun,
    check_checkpoint,
    checkpoint_name,
    load_recorded_run,
    parse_span,
    require_recorded_world,
    select_segments,
    with_recorded_runtime,
)
from paribus.runs.train import compute_intervals

TOLERANCE = {"fp64": 1e-9, "fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}


@dataclass(frozen=True)
class ReplayResult:
    """agreement: of the steps after `begin` up to `end`. is_exact_promised: the replay had to be bit-exact.
    differences: in what may change bits, key -> (then, now). seconds: of the replay's training."""

    record: RecordedRun
    begin: int
    end: int
    agreement: Agreement
    is_exact_promised: bool
    tolerance: float
    differences: Mapping[str, tuple[Any, Any]]
    seconds: float

    @property
    def outcome(self) -> str:
        return (
            "bit-exact"
            if self.agreement.is_exact
            else "differs"
            if self.agreement.first_beyond_tolerance
            else "within-tolerance"
        )


def replay_run(folder: Path, span: str | None, tolerance: float | None, overrides: list[str]) -> ReplayResult:
    """Replay a span of a run. span: A:B, or None for about a minute. Raises ConfigError if there is nothing to verify
    or it cannot be replayed here."""
    record = load_recorded_run(folder, overrides)
    begin, end = parse_span(record, span)
    recorded_segments = [
        s for s in select_segments(record.segments, begin, end) if isinstance(s.get("fingerprint"), dict)
    ]
    if not recorded_segments:
        raise ConfigError(f"{folder / runfolder.PROVENANCE} has no fingerprint of steps {begin + 1} to {end}")
    world = require_recorded_world(record.folder, recorded_segments, span, overrides)
    recipe = with_recorded_runtime(record.recipe, recorded_segments[0], overrides)
    start = checkpoint.load(folder / runfolder.CHECKPOINTS / checkpoint_name(begin)) if begin else None
    for path in sorted((folder / runfolder.CHECKPOINTS).glob("step_*.pt")):
        check_checkpoint(path, record, required=path.name == (begin and checkpoint_name(begin)))
    if start is not None:
        receipt.read_until_checkpoint(folder / runfolder.RECEIPTS, start.loop.get("receipt"))
    device = apply_runtime(recipe.runtime, world)
    distributed.init_process_group(world, device)
    with _temporary_folder() as scratch:
        shutil.copyfile(folder / runfolder.RECEIPTS, scratch / runfolder.RECEIPTS)
        replayed, method, checksum, seconds = _train_again(recipe, scratch, device, world, start, end)
    current_fingerprint = fingerprint(recipe.runtime, device, world, describe_optimizer(method))
    is_exact_promised = all(s["fingerprint"] == current_fingerprint for s in recorded_segments) and (
        device.type == "cpu" or recipe.runtime.deterministic
    )
    if tolerance is None:
        tolerance = 0.0 if is_exact_promised else TOLERANCE.get(getattr(recipe.update, "precision", "fp32"), 1e-3)
    agreement = distributed.broadcast_from_main(
        world,
        lambda: compare_receipts(
            collect_values(record.receipt_lines) | record.collect_metrics(), replayed, begin, end, tolerance
        ),
    )
    differences = _find_differences(record, recorded_segments, current_fingerprint, recipe, checksum)
    return ReplayResult(record, begin, end, agreement, is_exact_promised, tolerance, differences, seconds)


class _StopAfter(StopRequest):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def should_stop(self, world: World, device: torch.device, now: bool) -> bool:
        self._left -= 1
        return self._left == 0


class _EvaluationRecorder:
    """Evaluates; as a tracker it learns the step of each evaluation."""

    def __init__(self, evaluate_now: Callable[[], dict[str, float]]) -> None:
        self.values: dict[Key, Value] = {}
        self._evaluate = evaluate_now
        self._newest: dict[str, float] = {}

    def __call__(self) -> dict[str, float]:
        self._newest = self._evaluate()
        return self._newest

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.values |= {(step, METRIC, name): value for name, value in self._newest.items()}
        self._newest = {}

    def close(self, summary: Mapping[str, Any]) -> None:
        pass


def _train_again(
    recipe: Recipe, scratch: Path, device: torch.device, world: World, start: Checkpoint | None, end: int
) -> tuple[dict[Key, Value], Method, str, float]:
    """Train from a checkpoint, or the beginning, to a step; what the receipt says, and what made it."""
    place = make_device_context(recipe, device, world)
    with explain_build_errors("data"):
        data = recipe.data(place)
        loader = build_loader(recipe, data, place)
    with explain_build_errors("model, optimizer or transforms"):
        method = build_method(recipe, data, place)
    evaluators = build_evaluators(recipe, data)
    total = count_steps(recipe, loader.steps_per_epoch)
    every = compute_intervals(recipe, loader.steps_per_epoch)
    run = Run(scratch, recipe.id, total, recipe.seed, every, 1, world, device)
    began = time.perf_counter()
    stop = _StopAfter(end - (start.step if start else 0))
    recorder = _EvaluationRecorder(lambda: evaluate(method, evaluators, data.splits))
    train_loop(run, method, loader, recorder, recorder, stop, start)
    seconds = time.perf_counter() - began
    if not world.is_main:
        return {}, method, data.checksum, seconds
    last = checkpoint.load_newest(scratch)
    pending_losses = last.loop["receipt"]["losses"] if last else []  # of the steps since the last log point
    pending = enumerate(pending_losses, end - len(pending_losses) + 1)
    replayed = collect_values(receipt.read(scratch / runfolder.RECEIPTS), pending) | recorder.values
    return replayed, method, data.checksum, seconds


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A temporary folder that is removed however this ends, also by SIGTERM and Ctrl-C."""

    def exit_on_signal(number: int, _: object) -> None:
        print("paribus: interrupted, before a verdict", file=sys.stderr)
        sys.exit(128 + number)

    before = {number: signal.signal(number, exit_on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with tempfile.TemporaryDirectory(prefix="paribus-verify-") as scratch:
            yield Path(scratch)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _find_differences(
    record: RecordedRun,
    recorded_segments: list[Mapping[str, Any]],
    current_fingerprint: Mapping[str, Any],
    recipe: Recipe,
    data: str,
) -> dict[str, tuple[Any, Any]]:
    """Everything recorded that may explain different bits and differs here."""
    found: dict[str, tuple[Any, Any]] = {}
    known = {"recipe": (record.summary.get("id"), recipe.id), "data": (record.summary.get("data_checksum"), data)}
    found |= {key: pair for key, pair in known.items() if pair[0] not in (None, pair[1])}
    for segment in recorded_segments:
        found |= {
            key: pair
            for key, pair in diff_fingerprints(segment["fingerprint"], current_fingerprint).items()
            if key not in found
        }
    commit, diff = read_git_state()
    old = (recorded_segments[-1].get("commit"), recorded_segments[-1].get("dirty"))
    if found and old != (commit, bool(diff)):
        commits = [f"{(c or 'none')[:12]}{' and changes' if dirty else ''}" for c, dirty in (old, (commit, bool(diff)))]
        found["commit"] = (commits[0], commits[1])
    return found
