"""Replays a span of a recorded run in a temporary folder and compares it with the record, for `paribus verify`.

Evaluations are repeated too, and every line of the record is made again: what a study takes is in no receipt.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.evaluation import make_context
from paribus.core.protocols import DataSets, Method
from paribus.core.scratch import scratch_folder
from paribus.engine import checkpoint, distributed, receipt
from paribus.engine.agreement import (
    EVENT,
    FINAL,
    Agreement,
    Key,
    Value,
    collect_values,
    compare_receipts,
    diff_fingerprints,
)
from paribus.engine.checkpoint import Checkpoint
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.loop import RunSettings
from paribus.engine.loop import train as train_loop
from paribus.engine.provenance import cpu_name, fingerprint, read_git_state
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
from paribus.recipe.files import missing_start_files
from paribus.recipe.recipe import Recipe
from paribus.runs import record_check
from paribus.runs.describe import describe_optimizer, measure_network_size
from paribus.runs.record_check import Discrepancy, RecordCheck
from paribus.runs.recorded_run import (
    RecordedRun,
    check_checkpoint,
    checkpoint_name,
    describe_taken_over,
    load_recorded_run,
    parse_span,
    require_recorded_world,
    select_segments,
    with_recorded_runtime,
)
from paribus.runs.train import compute_intervals, describe_result
from paribus.study.rows import Row, read_row

TOLERANCE = {"fp64": 1e-9, "fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}


@dataclass(frozen=True)
class ReplayResult:
    """agreement: of the steps after `begin` up to `end`. check: of the record as a whole. is_exact_promised: the replay
    had to be bit-exact. differences: in what may change bits, key -> (then, now). seconds: of the replay's training."""

    record: RecordedRun
    begin: int
    end: int
    agreement: Agreement
    check: RecordCheck
    is_exact_promised: bool
    tolerance: float
    differences: Mapping[str, tuple[Any, Any]]
    seconds: float

    @property
    def outcome(self) -> str:
        if self.agreement.first_beyond_tolerance or self.check.discrepancies:
            return "differs"
        return "bit-exact" if self.agreement.is_exact else "within-tolerance"


@dataclass(frozen=True)
class _Replayed:
    """values: of the receipt. lines: of the record. total: steps of the whole run. seconds: of training."""

    values: dict[Key, Value]
    lines: list[dict[str, Any]]
    method: Method
    data: DataSets
    every: dict[str, int]
    total: int
    seconds: float


def replay_run(
    folder: Path, span: str | None, tolerance: float | None, overrides: list[str], rows: Sequence[Row] = ()
) -> ReplayResult:
    """Replay a span of a run. span: A:B, or None for about a minute. rows: of the run in studies. Raises ConfigError if
    there is nothing to verify or it cannot be replayed here."""
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
    elif missing := missing_start_files(recipe):
        key, file = next(iter(missing.items()))
        raise ConfigError(
            f"{key}: {file}: it is not there, and the replay starts from it; put it back, or begin at a checkpoint "
            "with --span A:B"
        )
    device = apply_runtime(recipe.runtime, world)
    distributed.init_process_group(world, device, recipe.runtime.timeout)
    with scratch_folder("paribus-verify-") as scratch:
        shutil.copyfile(folder / runfolder.RECEIPTS, scratch / runfolder.RECEIPTS)
        again = _train_again(recipe, scratch, device, world, start, end)
    optimizer = describe_optimizer(again.method)
    current_fingerprint = fingerprint(recipe.runtime, device, world, optimizer, recipe.packages)
    processor = cpu_name() if device.type == "cpu" else ""
    is_exact_promised = all(
        s["fingerprint"] == current_fingerprint and s.get("cpu", processor) in (processor, None)
        for s in recorded_segments
    ) and (device.type == "cpu" or recipe.runtime.deterministic)
    if tolerance is None:
        tolerance = 0.0 if is_exact_promised else TOLERANCE.get(getattr(recipe.update, "precision", "fp32"), 1e-3)
    agreement, check = distributed.broadcast_from_main(
        world, lambda: _compare(record, again, recipe, begin, end, tolerance, rows)
    )
    differences = _find_differences(
        record, recorded_segments, current_fingerprint, processor, recipe, again.data.checksum
    )
    return ReplayResult(record, begin, end, agreement, check, is_exact_promised, tolerance, differences, again.seconds)


def _compare(
    record: RecordedRun,
    again: _Replayed,
    recipe: Recipe,
    begin: int,
    end: int,
    tolerance: float,
    rows: Sequence[Row],
) -> tuple[Agreement, RecordCheck]:
    """The numbers of the replay with those on record, and the record with itself, with the recipe and with its rows."""
    span, ended = (begin, end), record.has_ended
    steps = [line["step"] for line in again.lines]
    skipped = record_check.skipped_ranges(record.segments, record.events, steps, again.every, span)

    def select(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [line for line in lines if not any(a < line["step"] <= b for a, b in skipped)]

    events, lines = select(record.events), select(again.lines)
    then = collect_values(record.receipt_lines) | record_check.collect_numbers(events)
    now = again.values | record_check.collect_numbers(lines)
    if ended and end == again.total == record.summary.get("step"):
        newest = {name: value for line in lines for name, value in line["values"].items()}
        then |= record_check.final_numbers(record.summary)
        now |= record_check.collect_numbers([{"step": end, "values": newest}], FINAL)
    agreement = compare_receipts(then, now, begin, end, tolerance)

    found = record_check.compare_events_with_themselves(record.events)
    found += record_check.compare_lines(events, lines, span, ended)
    known = {(d.step, d.key) for d in found} | {(s, key) for s, kind, key in then.keys() & now.keys() if kind == EVENT}
    by_receipt = record_check.compare_events_with_receipt(record.events, record.receipt_lines)
    found += [d for d in by_receipt if (d.step, d.key) not in known or not begin < (d.step or 0) <= end]
    left_out = describe_taken_over(record) + record_check.describe_not_compared(record.events, span, skipped)
    if ended:
        size = measure_network_size(again.method, again.data.spec)
        expected = describe_result(recipe, again.total, again.data, size)
        wrong, unknown = record_check.compare_summary_with_recipe(record.summary, expected, ("model.macs",))
        left_out += unknown
        if record_check.has_wrong_events(found, then, now, tolerance):  # the replay says what the summary should be
            left_out.append(f"{runfolder.SUMMARY} with {runfolder.EVENTS}, which is wrong itself")
            if end == again.total != (step := record.summary.get("step")):
                wrong.append(Discrepancy(runfolder.SUMMARY, None, "step", step, end))
        else:
            wrong += record_check.compare_summary_with_events(record.summary, record.events)
        found += wrong
    else:
        left_out.append(f"{runfolder.SUMMARY} (the run has not ended)")
    for row in rows:
        made = read_row(record.folder, row.study, row.arm)
        if made is None:
            left_out.append("its row (the run has not ended)")
            continue
        wrong, unknown = record_check.compare_row(row, made, max(tolerance, _row_tolerance(row, made, recipe)))
        found, left_out = [*found, *wrong], [*left_out, *unknown]
    return agreement, RecordCheck(tuple(found), tuple(left_out))


def _row_tolerance(row: Row, made: Row, recipe: Recipe) -> float:
    """For the row of another run of the recipe: 0 where both were promised to be equal."""
    same = row.fingerprint == made.fingerprint and row.hardware.get("cpu") == made.hardware.get("cpu")
    return 0.0 if same and made.repeats_bits else TOLERANCE.get(getattr(recipe.update, "precision", "fp32"), 1e-3)


class _StopAfter(StopRequest):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def should_stop(self, world: World, device: torch.device, now: bool) -> bool:
        self._left -= 1
        return self._left == 0


class _LineRecorder:
    """A tracker that keeps the lines of the record."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.lines.append({"step": step, "values": dict(values)})

    def close(self, summary: Mapping[str, Any]) -> None:
        pass


def _train_again(
    recipe: Recipe, scratch: Path, device: torch.device, world: World, start: Checkpoint | None, end: int
) -> _Replayed:
    """Train from a checkpoint, or the beginning, to a step."""
    place = make_device_context(recipe, device, world)
    with explain_build_errors("data"):
        data = recipe.data(place)
        loader = build_loader(recipe, data, place)
    with explain_build_errors("model, optimizer or transforms"):
        method = build_method(recipe, data, place, from_checkpoint=start is not None)
    evaluators = build_evaluators(recipe, data)
    total = count_steps(recipe, loader.steps_per_epoch)
    every = compute_intervals(recipe, loader.steps_per_epoch)
    run = RunSettings(scratch, recipe.id, total, recipe.seed, every, 1, world, device)
    began = time.perf_counter()
    stop = _StopAfter(end - (start.step if start else 0))
    recorder = _LineRecorder()
    context = make_context(data, place)

    def evaluate_again(done: int, is_last: bool) -> dict[str, float]:
        return evaluate(method, evaluators, data.splits, context, is_last).metrics

    train_loop(run, method, loader, evaluate_again, recorder, stop, start)
    seconds = time.perf_counter() - began
    values: dict[Key, Value] = {}
    if world.is_main:
        last = checkpoint.load_newest(scratch)
        pending_losses = last.loop["receipt"]["losses"] if last else []  # of the steps since the last log point
        pending = enumerate(pending_losses, end - len(pending_losses) + 1)
        values = collect_values(receipt.read(scratch / runfolder.RECEIPTS), pending)
    return _Replayed(values, recorder.lines, method, data, asdict(every), total, seconds)


def _find_differences(
    record: RecordedRun,
    recorded_segments: list[Mapping[str, Any]],
    current_fingerprint: Mapping[str, Any],
    processor: str,
    recipe: Recipe,
    data: str,
) -> dict[str, tuple[Any, Any]]:
    """Everything recorded that may explain different bits and differs here. processor: its model, "" where another
    device computes."""
    found: dict[str, tuple[Any, Any]] = {}
    images = record.summary.get("data_checksum") or record.segments[0].get("data_checksum")  # a killed run: no summary
    known = {"recipe": (record.summary.get("id"), recipe.id), "data": (images, data)}
    found |= {key: pair for key, pair in known.items() if pair[0] not in (None, pair[1])}
    others = [cpu for s in recorded_segments if (cpu := s.get("cpu")) not in (None, processor)]
    if processor and others:
        found["processor"] = (others[0], processor)
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
