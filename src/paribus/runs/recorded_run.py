"""A run as `paribus verify` reads it: its record, the steps that can be replayed, and the environment they ran in."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.events import read_events
from paribus.core.formatting import format_count
from paribus.engine import checkpoint, distributed, receipt
from paribus.engine.distributed import World
from paribus.recipe.recipe import Recipe
from paribus.runs.saved_run import rebuild_with_overrides

DEFAULT_SECONDS = 60  # of training, roughly, where no span is given
ALLOWED_OVERRIDES = ("data.root", "packages", "runtime.")


@dataclass(frozen=True)
class RecordedRun:
    """A run folder as it is on disk. receipt_lines: of receipts.jsonl. segments: one for each start of the run, from
    provenance.json. events: of events.jsonl. end: the last step in the receipt."""

    folder: Path
    recipe: Recipe
    receipt_lines: list[receipt.ReceiptLine]
    segments: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]
    end: int

    @property
    def has_ended(self) -> bool:
        """Whether summary.json is of this state: it is out of date while a run goes on."""
        state = runfolder.read_state(self.folder)
        return state is not None and state == self.summary.get("state")


def load_recorded_run(folder: Path, overrides: Sequence[str]) -> RecordedRun:
    command = shlex.join(["paribus", "verify", str(folder), *(o for o in overrides if not o.startswith("packages="))])
    recipe = rebuild_with_overrides(runfolder.read_config(folder), overrides, ALLOWED_OVERRIDES, command)
    path = folder / runfolder.RECEIPTS
    lines = receipt.read(path) if path.is_file() else []
    end = max((line["step"] for line in lines if "losses" in line), default=0)
    if not end:
        raise ConfigError(
            f"{folder} has no receipt ({runfolder.RECEIPTS}) yet; a run has one from its first log line on"
        )
    segments = runfolder.read_segments(folder)
    summary = runfolder.read_json(folder / runfolder.SUMMARY)
    if runfolder.read_state(folder) == "DONE" and isinstance(summary.get("step"), int) and summary["step"] > end:
        raise ConfigError(f"{path} ends at step {end} of {summary['step']}; put the whole file back")
    events = read_events(folder / runfolder.EVENTS)
    return RecordedRun(folder, recipe, lines, segments, summary, events, end)


def check_checkpoint(path: Path, record: RecordedRun, required: bool) -> None:
    """Raise ConfigError if a checkpoint holds other weights than the receipt says, or those of another step or run.

    required: the replay begins from it, so it has to be intact; any other damaged one is skipped.
    """
    try:
        loaded = checkpoint.load(path)
    except ConfigError:
        if required:
            raise
        return
    if checkpoint_name(loaded.step) != path.name:
        raise ConfigError(f"{path} holds the checkpoint of step {loaded.step}; put the right file back")
    known = [line["checksums"] for line in record.receipt_lines if line["step"] == loaded.step and "checksums" in line]
    if known and receipt.checksums(loaded.method) != known[-1]:
        raise ConfigError(
            f"{path} holds other weights than the run had (their checksums are not in {runfolder.RECEIPTS}); "
            "put the right file back, or delete it"
        )


def parse_span(record: RecordedRun, span: str | None) -> tuple[int, int]:
    """The two ends of a span as steps."""
    first = find_first_step(record)
    known = [int(path.stem.removeprefix("step_")) for path in (record.folder / runfolder.CHECKPOINTS).glob("step_*.pt")]
    known = sorted(({0} if first == 0 else set()) | {step for step in known if first <= step < record.end})
    if span is None:
        begin = min(known, default=first)
        end = _choose_end(record, begin)
    else:
        a, _, b = span.partition(":")
        if not all(text.isdecimal() or not text for text in (a, b)) or ":" not in span:
            raise ConfigError(f"--span: found {span}; should be A:B, two steps, such as 0:100")
        begin, end = int(a or 0), int(b or record.end)
    if begin not in known:
        there = ", ".join(map(str, known)) or "no step"
        raise ConfigError(f"{record.folder}: a replay cannot begin after step {begin}; it can after {there}")
    if not begin < end <= record.end:
        raise ConfigError(
            f"{record.folder}: a replay from step {begin} can end after {begin + 1} to {record.end}, not {end}"
        )
    return begin, end


def find_first_step(record: RecordedRun) -> int:
    """After which a replay can begin at the earliest: the first on record, or where the run continued another, whose
    own folder has what stands before."""
    first = next(step for line in record.receipt_lines for step, _ in receipt.iterate_steps(line)) - 1
    own = [segment.get("start_step", 0) for segment in record.segments if runfolder.COPIED not in segment]
    return max([first, *own[:1]]) if len(own) < len(record.segments) else first


def describe_taken_over(record: RecordedRun) -> list[str]:
    """The steps that another run trained, which no replay of this one reaches, as one text; [] if it began itself."""
    sources = [segment[runfolder.COPIED] for segment in record.segments if runfolder.COPIED in segment]
    return [f"steps 1 to {find_first_step(record)}, which {sources[-1]} trained"] if sources else []


def _choose_end(record: RecordedRun, begin: int) -> int:
    """The last step of a replay that takes about DEFAULT_SECONDS, at a checkpoint if one comes in that time."""
    clocks = [(e["step"], s) for e in record.events if isinstance(s := e["values"].get("time/train_s"), float)]
    step, seconds = clocks[-1] if clocks else (1, 0.0)
    affordable = begin + max(1, int(DEFAULT_SECONDS * step / max(seconds, 1e-9)))
    if affordable >= record.end:
        return record.end
    checkpoint_steps = [
        line["step"] for line in record.receipt_lines if "checksums" in line and begin < line["step"] <= affordable
    ]
    return max(checkpoint_steps, default=affordable)


def select_segments(segments: Sequence[Mapping[str, Any]], begin: int, end: int) -> list[Mapping[str, Any]]:
    """The segments (starts of the run) whose steps are in the record: a later one replaces what it trained again."""
    starts = [segment.get("start_step", 0) for segment in segments]
    return [segment for i, segment in enumerate(segments) if max(starts[i], begin) < min([*starts[i + 1 :], end])]


def require_recorded_world(
    folder: Path, segments: list[Mapping[str, Any]], span: str | None, overrides: Sequence[str]
) -> World:
    """The world of this process. Raises ConfigError unless as many processes run as were recorded."""
    sizes = sorted({segment["fingerprint"].get("world_size", 1) for segment in segments})
    world = distributed.from_environment()
    if len(sizes) > 1:
        raise ConfigError(
            f"{folder}: these steps were trained by {sizes[0]} and by {sizes[-1]} processes; choose a --span of one"
        )
    if sizes[0] != world.size:
        command = "paribus verify" if sizes[0] == 1 else f"torchrun --nproc-per-node={sizes[0]} -m paribus.cli verify"
        rest = shlex.join([str(folder), *(["--span", span] if span else []), *overrides])
        trained_by = format_count(sizes[0], "process", "processes")
        raise ConfigError(f"{folder} was trained by {trained_by}, not {world.size}; {command} {rest}")
    return world


def with_recorded_runtime(recipe: Recipe, segment: Mapping[str, Any], overrides: list[str]) -> Recipe:
    """The recipe with the recorded threads and kind of device, where no override says otherwise."""
    overridden = {override.partition("=")[0] for override in overrides}
    runtime = recipe.runtime
    if "runtime.threads" not in overridden:
        runtime = dataclasses.replace(runtime, threads=segment["fingerprint"].get("threads", runtime.threads))
    if "runtime.device" not in overridden:
        gpu = segment.get("gpu")
        if gpu and not torch.cuda.is_available():
            raise ConfigError(
                f"the run was trained on {gpu}, and torch finds no CUDA device on this machine; runtime.device=cpu "
                "replays it on the CPU, within a tolerance at best"
            )
        device = "cpu" if not gpu else "cuda" if runtime.device == "cpu" else runtime.device
        runtime = dataclasses.replace(runtime, device=device)
    return dataclasses.replace(recipe, runtime=runtime)


def checkpoint_name(step: int) -> str:
    return f"step_{step:08d}.pt"
