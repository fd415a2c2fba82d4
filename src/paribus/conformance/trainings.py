"""What is checked, and trainings of it in process: from overrides to final weights, in a folder to throw away."""

import io
import json
from collections.abc import Collection, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paribus.core.protocols import DataSets, DeviceContext, Method
from paribus.engine.agreement import LOSS, collect_values
from paribus.engine.distributed import World
from paribus.engine.receipt import read
from paribus.engine.stop import StopRequest
from paribus.recipe.build import build_method, make_device_context
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.recipe.smoke import build_small, compose_small, find_smoke_recipe
from paribus.runs.train import train
from paribus.study.spec import merge_overrides, parse_key

VOLATILE = ("time/", "throughput/", "memory/")
SHORT = ("steps=60ba", "every.log=10ba", "every.evaluate=20ba", "every.checkpoint=20ba")  # as the smoke recipes


@dataclass(frozen=True)
class Trial:
    """Techniques, on a recipe that they fit. overrides: of that recipe. config_dir: of the user's own configs."""

    techniques: tuple[str, ...]
    overrides: tuple[str, ...]
    config_dir: Path | None = None

    @property
    def baseline(self) -> "Trial":
        """The same recipe without them."""
        return replace(self, techniques=())

    def recipe(self, *more: str) -> Recipe:
        """more: further overrides, which count before the subject's own."""
        return build_small(merge_overrides(self.overrides, more), self.techniques, self.config_dir)


def make_subject(techniques: tuple[str, ...], given: tuple[str, ...] = (), config_dir: Path | None = None) -> Trial:
    """On the first smoke recipe that they fit, or on the experiment that is given, cut to as many steps. Raises
    ConfigError if there is none."""
    short = SHORT if any(parse_key(override) == "experiment" for override in given) else ()
    return Trial(techniques, find_smoke_recipe(techniques, merge_overrides(short, given), config_dir), config_dir)


@dataclass(frozen=True)
class TrainingResult:
    """A training, read back from its folder. receipt: losses, gradient norms, and checksums of the weights. printed:
    on standard output."""

    code: int
    folder: Path
    events: list[dict[str, Any]]
    weights: Mapping[str, Tensor]
    receipt: dict[Any, Any]
    printed: str = ""

    def same_as(self, other: "TrainingResult") -> bool:
        """Bit-identical weights, losses and gradient norms, and events but for clocks."""
        return not self.first_difference(other)

    def first_difference(self, other: "TrainingResult") -> str:
        """In words; "" if there is none."""
        if self.receipt != other.receipt:
            keys = sorted(k for k in self.receipt.keys() | other.receipt.keys() if not self._has_same(other, k))
            step, _, name = keys[0]
            return f"{name} at step {step}: {self.receipt.get(keys[0])} and {other.receipt.get(keys[0])}"
        if unlike := [n for n in self.weights.keys() | other.weights.keys() if not _is_same_tensor(self, other, n)]:
            return f"weights {min(unlike)}"
        if timeless(self.events) != timeless(other.events):
            return "what is recorded in events.jsonl"
        return ""

    def first_shared_difference(self, other: "TrainingResult") -> str:
        """Of what both have, in words; "" if there is none. The other one must have all of the weights here, and may
        have more of them and log more, as a method with a second network does."""
        if missing := self.weights.keys() - other.weights.keys():
            return f"weights {min(missing)}, which are not there"
        told = self.receipt.keys() & other.receipt.keys()
        if self.weights.keys() != other.weights.keys():  # norms and checksums are over all of them
            told = {key for key in told if key[1] == LOSS}
        logged = _values(self.events).keys() & _values(other.events).keys()
        ours, theirs = (result._restrict(self.weights.keys(), told, logged) for result in (self, other))
        return ours.first_difference(theirs)

    def _restrict(
        self, weights: Collection[str], told: Collection[Any], logged: Collection[tuple[int, str]]
    ) -> "TrainingResult":
        return replace(
            self,
            weights={name: self.weights[name] for name in weights},
            receipt={key: self.receipt[key] for key in told},
            events=[{"step": s, "values": {n: v}} for (s, n), v in _values(self.events).items() if (s, n) in logged],
        )

    def _has_same(self, other: "TrainingResult", key: Any) -> bool:
        return key in self.receipt and key in other.receipt and self.receipt[key] == other.receipt[key]


def _is_same_tensor(one: TrainingResult, other: TrainingResult, name: str) -> bool:
    return name in one.weights and name in other.weights and torch.equal(one.weights[name], other.weights[name])


def _values(events: list[dict[str, Any]]) -> dict[tuple[int, str], Any]:
    return {(event["step"], name): value for event in events for name, value in event["values"].items()}


def timeless(events: list[dict[str, Any]]) -> list[Any]:
    return [(e["step"], {k: v for k, v in e["values"].items() if not k.startswith(VOLATILE)}) for e in events]


def result_in(folder: Path, code: int = 0, printed: str = "") -> TrainingResult:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    newest = sorted((folder / "checkpoints").glob("step_*.pt"))[-1]
    state = torch.load(newest, weights_only=True)
    told = collect_values(read(folder / "receipts.jsonl"))
    told = {key: value for key, value in told.items() if key[2] != "optimizer"}  # whose state has names of its own
    return TrainingResult(code, folder, events, collect_weights(state["method"]), told, printed)


def collect_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a method's state: those under "model" by their own names, those of another network, NAME, with
    "NAME." before theirs (core/capabilities.py, `HasParts`)."""
    others = {
        f"{name}.{key}": value
        for name, part in state.items()
        if name != "model" and isinstance(part, Mapping) and isinstance(part.get("model"), Mapping)
        for key, value in part["model"].items()
    }
    return {**state.get("model", {}), **others}


class StopAfter(StopRequest):
    """Asks for a stop after so many steps, as SIGTERM would; None: never. Signals stay with who listens to them."""

    def __init__(self, steps: int | None = None) -> None:
        super().__init__()
        self._left = steps

    def install_handlers(self) -> None:
        pass

    def should_stop(self, world: World, device: torch.device, now: bool) -> bool:
        if self._left is not None:
            self._left -= 1
        return self._left == 0


def train_subject(subject: Trial, runs: Path, *more: str, stop_after: int | None = None) -> TrainingResult:
    """Train it under `runs`, with further overrides, and read the result back; what it prints is kept from the
    screen. Raises ConfigError or RunFailed as `paribus train` does."""
    overrides = merge_overrides(subject.overrides, (*more, f"paths.runs={runs}"))
    cfg = compose_small(overrides, subject.techniques, subject.config_dir)
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()):
        code = train(cfg, list(subject.techniques), StopAfter(stop_after))
    return result_in(build_recipe(cfg, list(subject.techniques)).folder, code, printed.getvalue())


def workbench(recipe: Recipe) -> tuple[DataSets, Method, DeviceContext]:
    """Data and method of a recipe on the CPU, without a run folder."""
    place = make_device_context(recipe, torch.device("cpu"), World())
    data = recipe.data(place)
    return data, build_method(recipe, data, place), place
