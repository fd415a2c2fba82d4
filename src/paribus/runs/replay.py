"""A recorded run trained again in a temporary folder, as far as `paribus verify` wants it, and held against its record.

Evaluations are made again too: what a study counts stands in the record, and no receipt has it.
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
from paribus.engine.agreement import METRIC, Agreement, Key, Value, compared, fingerprints, values
from paribus.engine.checkpoint import Checkpoint
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.loop import Run
from paribus.engine.loop import train as train_loop
from paribus.engine.provenance import checkout, fingerprint
from paribus.engine.runtime import prepare
from paribus.engine.stop import StopRequest
from paribus.recipe.build import building, evaluation_from, loader_from, method_from, place_of, steps_of
from paribus.recipe.recipe import Recipe
from paribus.runs.describe import optimizer_form
from paribus.runs.recorded_run import Record, as_on_record, as_then, computing, name_of, record_of, span_of, world_of
from paribus.runs.train import cadence

TOLERANCE = {"fp64": 1e-9, "fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}


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
    record = record_of(folder, overrides, usage)
    begin, end = span_of(record, span)
    then = [s for s in computing(record.segments, begin, end) if isinstance(s.get("fingerprint"), dict)]
    if not then:
        raise ConfigError(f"{folder / runfolder.PROVENANCE} does not say on what steps {begin + 1} to {end} were made")
    world = world_of(record.folder, then, span)
    recipe = as_then(record.recipe, then[0], overrides)
    start = checkpoint.load(folder / runfolder.CHECKPOINTS / name_of(begin)) if begin else None
    for path in sorted((folder / runfolder.CHECKPOINTS).glob("step_*.pt")):
        as_on_record(path, record, required=path.name == (begin and name_of(begin)))
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
    agreement = distributed.from_main(
        world, lambda: compared(values(record.lines) | record.measured(), again, begin, end, tolerance)
    )
    differences = _differences(record, then, now, recipe, checksum)
    return Verdict(record, begin, end, agreement, promised, tolerance, differences, seconds)


class _StopAfter(StopRequest):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def agreed(self, world: World, device: torch.device, now: bool) -> bool:
        self._left -= 1
        return self._left == 0


class _Heard:
    """Evaluates, and as a tracker hears after which step that was."""

    def __init__(self, evaluated: Callable[[], dict[str, float]]) -> None:
        self.values: dict[Key, Value] = {}
        self._evaluated = evaluated
        self._newest: dict[str, float] = {}

    def __call__(self) -> dict[str, float]:
        self._newest = self._evaluated()
        return self._newest

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.values |= {(step, METRIC, name): value for name, value in self._newest.items()}
        self._newest = {}

    def close(self, summary: Mapping[str, Any]) -> None:
        pass


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
    evaluators = evaluation_from(recipe, data)
    total = steps_of(recipe, loader.steps_per_epoch)
    every = cadence(recipe, loader.steps_per_epoch)
    run = Run(scratch, recipe.id, total, recipe.seed, every, 1, world, device)
    begun = time.perf_counter()
    stop = _StopAfter(end - (start.step if start else 0))
    heard = _Heard(lambda: evaluate(method, evaluators, data.splits))
    train_loop(run, method, loader, heard, heard, stop, start)
    seconds = time.perf_counter() - begun
    if not world.is_main:
        return {}, method, data.checksum, seconds
    last = checkpoint.newest(scratch)
    untold = last.loop["receipt"]["losses"] if last else []  # of the steps since the last log point
    pending = enumerate(untold, end - len(untold) + 1)
    again = values(receipt.read(scratch / runfolder.RECEIPTS), pending) | heard.values
    return again, method, data.checksum, seconds


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
