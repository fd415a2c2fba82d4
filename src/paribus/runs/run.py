"""A run folder from Python: what `paribus.train` returns and `paribus.runs` lists. No torch until `load`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.events import read_events
from paribus.core.lock import find_holder
from paribus.core.table import Rows
from paribus.runs.differences import find_differences, flatten, make_reader

if TYPE_CHECKING:
    from torch import nn


class History(NamedTuple):
    """A metric over training, to unpack or to plot: `plt.plot(*run.history("val/acc1"))`."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Run:
    """A run in its folder, finished or not. Everything is read from the files when it is asked for, so that a run that
    is being trained shows its latest values. path: of the folder."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).expanduser())
        if not (self.path / runfolder.CONFIG).is_file():
            raise ConfigError(f"{self.path}: no run there (no {runfolder.CONFIG}); paribus.runs(FOLDER) finds runs")

    @property
    def state(self) -> str:
        """done, failed, preempted, running (a process holds it) or stopped (none does, and it did not finish)."""
        marker = runfolder.read_state(self.path)
        return marker.lower() if marker else "running" if find_holder(self.path) else "stopped"

    @property
    def config(self) -> dict[str, Any]:
        """The complete recipe, every default written out."""
        return runfolder.read_config(self.path)

    @property
    def metrics(self) -> dict[str, float]:
        """The latest value of each metric. Accuracies are fractions, times are seconds."""
        found: dict[str, float] = {}
        for event in read_events(self.path / runfolder.EVENTS):
            found |= event["values"]
        return found or runfolder.read_json(self.path / runfolder.SUMMARY).get("metrics", {})

    def history(self, metric: str) -> History:
        """The steps at which a metric was recorded, and its values there. Raises ConfigError if there is none."""
        events = read_events(self.path / runfolder.EVENTS)
        found = [(event["step"], event["values"][metric]) for event in events if metric in event["values"]]
        if not found:
            known = ", ".join(sorted({key for event in events for key in event["values"]}))
            raise ConfigError(f"{self.path} has no {metric}; it has {known or 'nothing yet'}")
        return History([step for step, _ in found], [value for _, value in found])

    def rows(self) -> Rows:
        """The whole record: a row for each step at which something was measured, with `step` and its metrics."""
        return Rows({"step": e["step"], **e["values"]} for e in read_events(self.path / runfolder.EVENTS))

    def load(self, packages: Sequence[str] = ()) -> nn.Module:
        """The trained network on the CPU, in evaluation mode: of the newest checkpoint, averaged weights where the run
        keeps an average.

        packages: names of your packages whose classes the recipe uses. Inputs are (n, c, h, w), normalised as in
        training; outputs are (n, classes) logits. `class_names` and `class_ids` are those of the outputs, () if
        unknown. Raises ConfigError if there is no checkpoint yet.
        """
        from paribus.runs.network import load_network

        return load_network(self.path, packages)

    def __repr__(self) -> str:
        accuracies = [f"{key} {value:.2%}" for key, value in self.metrics.items() if key.endswith("/acc1")]
        return f"Run({str(self.path)!r}: {', '.join([self.state, *accuracies])})"


class RunList(list[Run]):
    """Runs, in the order of their names, with seed 2 before seed 10."""

    def rows(self) -> Rows:
        """A row for each: run (its folder's name), state, name, techniques (joined by +), seed; every key of the
        configs that differs between these runs, as `optimizer.lr` (None where a run has no such key, lists as tuples,
        so that one can group by them); the latest value of each metric; path.

        A metric without a group, such as the learning rate at the last step, is `last/lr`: it is no setting.
        """
        read = make_reader()
        configs = [_read_config(run, read) for run in self]
        keys = [key for key in find_differences(configs) if key not in ("techniques", "seed")]
        found = Rows()
        for run, config in zip(self, configs, strict=True):
            about = {"run": run.path.name, "state": run.state, "name": config.get("name")}
            about |= {"techniques": "+".join(config.get("techniques") or ()), "seed": config.get("seed")}
            about |= {key: _as_tuple(config.get(key)) for key in keys}
            metrics = {name if "/" in name else f"last/{name}": value for name, value in run.metrics.items()}
            found.append({**about, **metrics, "path": str(run.path)})
        return found

    def frame(self) -> Any:
        """`rows()` as a pandas.DataFrame; where pandas is not installed, as a list of dicts."""
        return self.rows().frame()

    def _repr_html_(self) -> str:
        return self.rows()._repr_html_()


def find_runs(folder: str | Path = "runs") -> RunList:
    """See paribus.runs."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; give the one that holds the run folders")
    return RunList(Run(path.parent) for path in sorted(folder.glob(f"*/{runfolder.CONFIG}"), key=_natural))


def _read_config(run: Run, read: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Dotted key -> value. Raises ConfigError if it is damaged."""
    try:
        return read((run.path / runfolder.CONFIG).read_text())
    except ValueError:  # UnicodeDecodeError is one
        return flatten(run.config)  # which says what is wrong


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.parent.name)]
