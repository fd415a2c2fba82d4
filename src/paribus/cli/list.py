"""`paribus list`: the available configs, and the runs and studies under a folder. Needs no torch."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from paribus.cli.arguments.others import GROUPS
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.core.lock import find_holder
from paribus.core.terminal import find_console
from paribus.recipe.configs import find_hidden, list_options

_COLOURS = {"done": "green", "running": "cyan", "failed": "red", "preempted": "yellow", "stopped": "yellow"}
_TAIL = 65536  # bytes read at the end of the record of a run without a summary: about 200 entries


def list_group(args: argparse.Namespace) -> int:
    """The configs of a group, each with one line on it."""
    group = GROUPS[args.typed[1]]
    found, shipped = list_options(group, args.config_dir), list_options(group)
    width = max(len(name) for name in found)
    for name, headline in found.items():
        whose = "" if name in shipped else f"({args.config_dir})"
        print("  ".join([f"{name:<{width}}", *filter(None, (headline, whose))]).rstrip())
    for name in find_hidden(group, args.config_dir) if args.config_dir else []:
        print(
            f"warning: {args.config_dir / group / name}.yaml is never taken, since paribus has a {group}={name} of its "
            "own; give yours another name",
            file=sys.stderr,
        )
    return OK


def list_studies(args: argparse.Namespace) -> int:
    """The studies under a folder, each with its question."""
    from paribus.study.load import load_study

    found: dict[str, str] = {}
    for path in sorted(args.folder.glob("*/study.yaml")):
        try:
            found[str(path.parent)] = load_study(path.parent).spec.question
        except ConfigError as error:
            found[str(path.parent)] = f"unreadable: {error}"
    if not found:
        raise ConfigError(f"{args.folder}: no study there (a folder with a study.yaml)")
    width = max(len(name) for name in found)
    for name, question in found.items():
        print(f"{name:<{width}}  {question}")
    return OK


def list_runs(args: argparse.Namespace) -> int:
    """The runs under a folder: a table on a terminal, else aligned columns, or JSON."""
    folder, rows = args.folder, found_runs(args.folder)
    if args.json:
        print(json.dumps([{**asdict(row), "folder": str(folder / row.run)} for row in rows], indent=2))
        return OK
    if not rows:
        print(f"no runs under {folder}")
        return OK
    screen = find_console()
    if screen is None:
        print("\n".join(plain(rows)))
        print(f"\nunder {folder.resolve()}")
    else:
        screen.print(table(rows, screen.width))
        notes = [f"{row.run} {row.state}: {row.note}" for row in rows if row.note]
        screen.print("\n".join(["", *notes, f"{_count(rows)} under {folder.resolve()}"]), soft_wrap=True)
    return OK


@dataclass(frozen=True)
class RunListing:
    """A run folder at a glance.

    state: done, failed, preempted, running (a process holds it) or stopped (none does, and it did not finish).
    step: of the newest checkpoint or record. total: steps, None where only the length in epochs is known so far.
    note: why it failed, who holds it, what is damaged. started: ISO 8601, of the first start.
    """

    run: str
    state: str
    step: int
    total: int | None
    length: str
    metrics: Mapping[str, float]
    started: str | None
    note: str


def found_runs(folder: Path) -> list[RunListing]:
    """The run folders directly under a folder, by name, with seed 2 before seed 10."""
    paths = [path.parent for path in folder.glob(f"*/{runfolder.CONFIG}")]
    return [_row(path) for path in sorted(paths, key=_natural)]


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _row(path: Path) -> RunListing:
    """One damaged file is a note, not the end of the list."""
    damaged: list[str] = []
    summary = _read(path / runfolder.SUMMARY, damaged)
    segments = _read(path / runfolder.PROVENANCE, damaged).get("segments")
    first = segments[0] if isinstance(segments, list) and segments else None
    state, note = _state(path)
    known = _recorded(path / runfolder.EVENTS) if state in ("running", "stopped") or not summary else {}
    metrics = {**_numbers(summary.get("metrics")), **_numbers(known.get("values"))}
    steps = [
        n
        for n in (summary.get("step"), known.get("step"), runfolder.newest_checkpoint_step(path))
        if isinstance(n, int)
    ]
    total, length = summary.get("steps"), _length(path / runfolder.CONFIG, damaged)
    if not isinstance(total, int):
        total = int(length[:-2]) if length.endswith("ba") else None
    started = str(first["time"]) if isinstance(first, dict) and "time" in first else None
    notes = [text for text in (note, f"damaged: {', '.join(damaged)}" if damaged else "") if text]
    return RunListing(path.name, state, max(steps, default=0), total, length, metrics, started, "; ".join(notes))


def _state(path: Path) -> tuple[str, str]:
    """State and note. The lock is tried only where there is no marker, so listing does not disturb a starting run."""
    marker = runfolder.read_state(path)
    if marker is None:
        held = find_holder(path)
        return ("running", f"by {held}") if held else ("stopped", "")
    why = ""
    if marker == "FAILED":
        with suppress(OSError, UnicodeDecodeError):
            why = (path / marker).read_text().partition("\n")[0]
    return marker.lower(), why


def _read(path: Path, damaged: list[str]) -> dict[str, Any]:
    try:
        found: Any = runfolder.read_json(path)
    except (ConfigError, OSError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        damaged.append(path.name)
        return {}
    return found


def _recorded(path: Path) -> dict[str, Any]:
    """Step and latest values at the end of a record; {} if there is none."""
    step, values = None, dict[str, Any]()
    with suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        for line in file.read().split(b"\n"):
            with suppress(ValueError, KeyError, TypeError):  # cut off at the start, or incomplete at the end
                event = json.loads(line)
                step, values = event["step"], {**values, **event["values"]}
    return {"step": step, "values": values}


def _numbers(metrics: Any) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if isinstance(v, int | float)} if isinstance(metrics, dict) else {}


def _length(path: Path, damaged: list[str]) -> str:
    """`steps` of a config. Reading 200 of them as YAML would take a second."""
    try:
        found = re.search(r"^steps: ['\"]?(\d+(?:ep|ba))['\"]?\s*$", path.read_text(), flags=re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        found = None
    if found is None:
        damaged.append(path.name)
        return ""
    return found[1]


def _count(rows: Sequence[RunListing]) -> str:
    states = [row.state for row in rows]
    counts = [f"{states.count(state)} {state}" for state in _COLOURS if state in states]
    return f"{len(rows)} run{'s' * (len(rows) != 1)} ({', '.join(counts)})"


_COLUMNS: dict[str, Callable[[RunListing], str]] = {  # the last ones are dropped first on a narrow terminal
    "run": lambda row: row.run,
    "state": lambda row: row.state,
    "step": lambda row: f"{row.step}/{row.total or row.length or '?'}",
    "val acc1": lambda row: f"{row.metrics['val/acc1']:.2%}" if "val/acc1" in row.metrics else "",
    "train s": lambda row: f"{row.metrics['time/train_s']:.1f}" if "time/train_s" in row.metrics else "",
    "started": lambda row: _local(row.started),
}
_RIGHT = ("step", "val acc1", "train s")


def _local(time: str | None) -> str:
    """In the local time zone."""
    with suppress(ValueError, TypeError):
        return datetime.fromisoformat(time or "").astimezone().strftime("%Y-%m-%d %H:%M")
    return ""


def plain(rows: Sequence[RunListing]) -> list[str]:
    """Aligned columns, nothing cut, for files and other programs."""
    columns = {**_COLUMNS, "note": lambda row: row.note}
    cells = [list(columns), *([tell(row) for tell in columns.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]


def table(rows: Sequence[RunListing], width: int) -> Any:
    """The same as a table of rich's. Where even the first columns do not fit, names wrap."""
    from rich.table import Table
    from rich.text import Text

    cells = {name: [tell(row) for row in rows] for name, tell in _COLUMNS.items()}
    widths = {name: max(len(name), *map(len, column)) for name, column in cells.items()}
    shown = list(cells)
    while len(shown) > 4 and sum(widths[name] + 2 for name in shown) - 2 > width:
        shown.pop()
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in shown:
        made.add_column(
            name,
            justify="right" if name in _RIGHT else "left",
            overflow="fold",
            no_wrap=name != "run",
            min_width=12 if name == "run" else widths[name],
        )
    for i, row in enumerate(rows):
        made.add_row(*(Text(cells[n][i], style=_COLOURS[row.state] if n == "state" else "") for n in shown))
    return made
