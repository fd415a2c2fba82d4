"""A recorded run trained again in a temporary folder, as far as `paribus verify` wants it, and held against its record.

Evaluations are left out: they follow from the weights.
"""

import dataclasses
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paribus.cli.compose import Recipe, building, loader_from, method_from, place_of, recipe_again, steps_of
from paribus.cli.facts import optimizer_form
from paribus.cli.saved import with_overrides
from paribus.cli.training import Trackers, cadence
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.events import read_events
from paribus.core.protocols import Method
from paribus.engine import checkpoint, distributed, receipt
from paribus.engine.agreement import Agreement, Key, Value, compared, fingerprints, values
from paribus.engine.checkpoint import Checkpoint
from paribus.engine.distributed import World
from paribus.engine.loop import Run
from paribus.engine.loop import train as train_loop
from paribus.engine.provenance import checkout, fingerprint
from paribus.engine.runtime import prepare
from paribus.engine.stop import StopRequest

SECONDS = 60  # of training, about, where no length was asked for
TOLERANCE = {"fp64": 1e-9, "fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}
ALLOWED = ("data.root", "packages", "runtime.")


@dataclass(frozen=True)
class Record:
    """A run folder as it was left. end: the last step that its receipt tells."""

    folder: Path
    recipe: Recipe
    lines: list[receipt.Line]
    segments: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    end: int


@dataclass(frozen=True)
class Verdict:
    """agreement: of the steps after `begin` up to `end`. promised: the bits had to be equal. differences: in what may
    change them, key -> (then, now). seconds: of training again."""

    record: Record
    begin: int
    end: int
    agreement: Agreement
    promised: bool
    tolerance: float
    differences: Mapping[str, tuple[Any, Any]]
    seconds: float

    @property
    def word(self) -> str:
        return "bit-exact" if self.agreement.exact else "differs" if self.agreement.beyond else "within-tolerance"


def verified(folder: Path, span: str | None, tolerance: float | None, overrides: list[str], usage: str) -> Verdict:
    """Replay a span of a run. span: A:B, or None for about a minute. Raises ConfigError if there is nothing to verify
    or it cannot be replayed here."""
    record = _record(folder, overrides, usage)
    begin, end = _span(record, span)
    then = [s for s in _computing(record.segments, begin, end) if isinstance(s.get("fingerprint"), dict)]
    if not then:
        raise ConfigError(f"{folder / runfolder.PROVENANCE} does not say on what steps {begin + 1} to {end} were made")
    world = _world(record.folder, then, span)
    recipe = _as_then(record.recipe, then[0], overrides)
    start = checkpoint.load(folder / runfolder.CHECKPOINTS / _name(begin)) if begin else None
    for path in sorted((folder / runfolder.CHECKPOINTS).glob("step_*.pt")):
        _as_on_record(path, record, required=path.name == (begin and _name(begin)))
    if start is not None:
        receipt.kept(folder / runfolder.RECEIPTS, start.loop.get("receipt"))
    device = prepare(recipe.runtime, world)
    distributed.join(world, device)
    with _leaving_nothing() as scratch:
        shutil.copyfile(folder / runfolder.RECEIPTS, scratch / runfolder.RECEIPTS)
        again, method, checksum, seconds = _trained(recipe, scratch, device, world, start, end)
    now = fingerprint(recipe.runtime, device, world, optimizer_form(method))
    promised = all(s["fingerprint"] == now for s in then) and (device.type == "cpu" or recipe.runtime.deterministic)
    if tolerance is None:
        tolerance = 0.0 if promised else TOLERANCE.get(getattr(recipe.update, "precision", "fp32"), 1e-3)
    agreement = distributed.from_main(world, lambda: compared(values(record.lines), again, begin, end, tolerance))
    differences = _differences(record, then, now, recipe, checksum)
    return Verdict(record, begin, end, agreement, promised, tolerance, differences, seconds)


def _as_on_record(path: Path, record: Record, required: bool) -> None:
    """Raise ConfigError if a checkpoint holds other weights than the receipt says, or those of another step or run.

    required: the replay begins from it, so that it has to be sound; another one that is damaged is passed over.
    """
    try:
        saved = checkpoint.load(path)
    except ConfigError:
        if required:
            raise
        return
    if _name(saved.step) != path.name:
        raise ConfigError(f"{path} holds the checkpoint of step {saved.step}; put the right file back")
    known = [line["checksums"] for line in record.lines if line["step"] == saved.step and "checksums" in line]
    if known and receipt.checksums(saved.method) != known[-1]:
        raise ConfigError(
            f"{path} holds other weights than the run had (their checksums are not in {runfolder.RECEIPTS}); "
            "put the right file back, or delete it"
        )


def _record(folder: Path, overrides: list[str], usage: str) -> Record:
    config = with_overrides(runfolder.read_config(folder), overrides, ALLOWED, usage)
    path = folder / runfolder.RECEIPTS
    lines = receipt.read(path) if path.is_file() else []
    end = max((line["step"] for line in lines if "losses" in line), default=0)
    if not end:
        raise ConfigError(
            f"{folder} has no receipt ({runfolder.RECEIPTS}) yet; a run has one from its first log line on"
        )
    segments = runfolder.segments(folder)
    summary = runfolder.read_json(folder / runfolder.SUMMARY)
    if runfolder.state(folder) == "DONE" and isinstance(summary.get("step"), int) and summary["step"] > end:
        raise ConfigError(f"{path} ends at step {end} of {summary['step']}; put the whole file back")
    return Record(folder, recipe_again(config), lines, segments, summary, end)


def _span(record: Record, span: str | None) -> tuple[int, int]:
    """Its two ends as steps."""
    first = next(step for line in record.lines for step, _ in receipt.per_step(line)) - 1
    if span is None:
        begin, end = first, _a_minutes_worth(record, first)
    else:
        a, _, b = span.partition(":")
        if not all(text.isdecimal() or not text for text in (a, b)) or ":" not in span:
            raise ConfigError(f"--span: found {span}; should be A:B, two steps, such as 0:100")
        begin, end = int(a or 0), int(b or record.end)
    known = [int(path.stem.removeprefix("step_")) for path in (record.folder / runfolder.CHECKPOINTS).glob("step_*.pt")]
    known = sorted(({0} if first == 0 else set()) | {step for step in known if first <= step < record.end})
    if begin not in known:
        there = ", ".join(map(str, known)) or "no step"
        raise ConfigError(f"{record.folder}: a replay cannot begin after step {begin}; it can after {there}")
    if not begin < end <= record.end:
        raise ConfigError(
            f"{record.folder}: a replay from step {begin} can end after {begin + 1} to {record.end}, not {end}"
        )
    return begin, end


def _a_minutes_worth(record: Record, begin: int) -> int:
    """The last step of a replay that takes about SECONDS, at a checkpoint if one comes in that time."""
    events = read_events(record.folder / runfolder.EVENTS)
    clocks = [(e["step"], s) for e in events if isinstance(s := e["values"].get("time/train_s"), float)]
    step, seconds = clocks[-1] if clocks else (1, 0.0)
    affordable = begin + max(1, int(SECONDS * step / max(seconds, 1e-9)))
    if affordable >= record.end:
        return record.end
    saved = [line["step"] for line in record.lines if "checksums" in line and begin < line["step"] <= affordable]
    return max(saved, default=affordable)


def _computing(segments: Sequence[Mapping[str, Any]], begin: int, end: int) -> list[Mapping[str, Any]]:
    """The segments of a run whose steps stand in its record: a later one takes the place of what it did again."""
    starts = [segment.get("start_step", 0) for segment in segments]
    return [segment for i, segment in enumerate(segments) if max(starts[i], begin) < min([*starts[i + 1 :], end])]


def _world(folder: Path, then: list[Mapping[str, Any]], span: str | None) -> World:
    """This process's place among as many as there were."""
    sizes = sorted({segment["fingerprint"].get("world_size", 1) for segment in then})
    world = distributed.from_environment()
    if len(sizes) > 1:
        raise ConfigError(
            f"{folder}: these steps were made by {sizes[0]} and by {sizes[-1]} processes; choose a --span of one"
        )
    if sizes[0] != world.size:
        command = "paribus verify" if sizes[0] == 1 else f"torchrun --nproc-per-node={sizes[0]} -m paribus.cli verify"
        rest = f" --span {span}" if span else ""
        raise ConfigError(f"{folder} was trained by {sizes[0]} processes, not {world.size}; {command} {folder}{rest}")
    return world


def _as_then(recipe: Recipe, segment: Mapping[str, Any], overrides: list[str]) -> Recipe:
    """The recipe with the threads and the kind of device on record, where no override says otherwise."""
    asked = {override.partition("=")[0] for override in overrides}
    runtime = recipe.runtime
    if "runtime.threads" not in asked:
        runtime = dataclasses.replace(runtime, threads=segment["fingerprint"].get("threads", runtime.threads))
    if "runtime.device" not in asked:
        gpu = segment.get("gpu")
        if gpu and not torch.cuda.is_available():
            raise ConfigError(
                f"the run was trained on {gpu}, and this machine shows no CUDA device to torch; runtime.device=cpu "
                "replays it on the CPU, within a tolerance at best"
            )
        device = "cpu" if not gpu else "cuda" if runtime.device == "cpu" else runtime.device
        runtime = dataclasses.replace(runtime, device=device)
    return dataclasses.replace(recipe, runtime=runtime)


class _StopAfter(StopRequest):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def agreed(self, world: World, device: torch.device, now: bool) -> bool:
        self._left -= 1
        return self._left == 0


def _trained(
    recipe: Recipe, scratch: Path, device: torch.device, world: World, start: Checkpoint | None, end: int
) -> tuple[dict[Key, Value], Method, str, float]:
    """Train from a checkpoint, or the beginning, to a step; what the receipt says, and what made it."""
    place = place_of(recipe, device, world)
    with building("data"):
        data = recipe.data(place)
        loader = loader_from(recipe, data, place)
    with building("model, optimizer or transforms"):
        method = method_from(recipe, data, place)
    total = steps_of(recipe, loader.steps_per_epoch)
    every = cadence(recipe, loader.steps_per_epoch)
    run = Run(scratch, recipe.id, total, recipe.seed, every, 1, world, device)
    begun = time.perf_counter()
    stop = _StopAfter(end - (start.step if start else 0))
    train_loop(run, method, loader, dict, Trackers([]), stop, start)
    seconds = time.perf_counter() - begun
    if not world.is_main:
        return {}, method, data.checksum, seconds
    last = checkpoint.newest(scratch)
    untold = last.loop["receipt"]["losses"] if last else []  # of the steps since the last log point
    pending = enumerate(untold, end - len(untold) + 1)
    return values(receipt.read(scratch / runfolder.RECEIPTS), pending), method, data.checksum, seconds


@contextmanager
def _leaving_nothing() -> Iterator[Path]:
    """A temporary folder that goes whatever ends this, SIGTERM and Ctrl-C too."""

    def leave(number: int, _: object) -> None:
        print("paribus: interrupted, before a verdict", file=sys.stderr)
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with tempfile.TemporaryDirectory(prefix="paribus-verify-") as scratch:
            yield Path(scratch)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _differences(
    record: Record, then: list[Mapping[str, Any]], now: Mapping[str, Any], recipe: Recipe, data: str
) -> dict[str, tuple[Any, Any]]:
    """Everything on record that may explain other bits and is otherwise here."""
    found: dict[str, tuple[Any, Any]] = {}
    known = {"recipe": (record.summary.get("id"), recipe.id), "data": (record.summary.get("data_checksum"), data)}
    found |= {key: pair for key, pair in known.items() if pair[0] not in (None, pair[1])}
    for segment in then:
        found |= {key: pair for key, pair in fingerprints(segment["fingerprint"], now).items() if key not in found}
    commit, diff = checkout()
    old = (then[-1].get("commit"), then[-1].get("dirty"))
    if found and old != (commit, bool(diff)):
        told = [f"{(c or 'none')[:12]}{' and changes' if dirty else ''}" for c, dirty in (old, (commit, bool(diff)))]
        found["commit"] = (told[0], told[1])
    return found


def _name(step: int) -> str:
    return f"step_{step:08d}.pt"
