"""`paribus list`: the available configs, and the runs and studies under a folder. Needs no torch."""

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paribus.cli.arguments.others import GROUPS
from paribus.cli.run_differences import has_value, match_key
from paribus.cli.run_table import COLOURS, RunListing, is_lower_better, plain, table
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.core.lock import find_holder
from paribus.core.terminal import find_console
from paribus.recipe.configs import find_hidden, list_options
from paribus.runs.differences import find_differences, make_reader

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
    folder, found = args.folder, found_runs(args.folder)
    rows = sort_runs(filter_runs(found, args.where), args.sort)
    check_metrics(found, args.metric)
    if args.json:
        print(json.dumps(as_json(folder, rows), indent=2))
        return OK
    if not rows:
        print(f"none of {_count(found)} under {folder} matches" if found else f"no runs under {folder}")
        return OK
    screen = find_console()
    if screen is None:
        print("\n".join(plain(rows, args.metric)))
        print(f"\nunder {folder.resolve()}")
    else:
        screen.print(table(rows, screen.width, args.metric))
        notes = [f"{row.run} {row.state}: {row.note}" for row in rows if row.note]
        screen.print("\n".join(["", *notes, f"{_count(rows)} under {folder.resolve()}"]), soft_wrap=True)
    return OK


def found_runs(folder: Path) -> list[RunListing]:
    """The run folders directly under a folder, by name, with seed 2 before seed 10."""
    paths = [path.parent for path in folder.glob(f"*/{runfolder.CONFIG}")]
    if not paths:
        return []
    read = make_reader()
    return [_row(path, read) for path in sorted(paths, key=_natural)]


def as_json(folder: Path, rows: Sequence[RunListing]) -> list[dict[str, Any]]:
    """differs: the keys in which these runs differ, with each one's values."""
    keys = find_differences([row.config for row in rows])
    made = [
        {**asdict(row), "folder": str(folder / row.run), "differs": {k: row.config[k] for k in keys if k in row.config}}
        for row in rows
    ]
    return [{key: value for key, value in row.items() if key != "config"} for row in made]


def filter_runs(rows: Sequence[RunListing], conditions: Iterable[str]) -> list[RunListing]:
    """The runs that meet all conditions, `state=done` or `KEY=VALUE` of the config. Raises ConfigError."""
    found = list(rows)
    for condition in conditions:
        typed, assigned, wanted = condition.partition("=")
        if not assigned or not typed:
            raise ConfigError(f"--where: found {condition!r}; should be KEY=VALUE, such as optimizer.lr=0.1")
        if typed == "state":
            if wanted not in COLOURS:
                raise ConfigError(f"--where: state={wanted}: there are {', '.join(COLOURS)}")
            found = [row for row in found if row.state == wanted]
        elif rows:
            key = match_key(typed, {key for row in rows for key in row.config})
            found = [row for row in found if has_value(row.config, key, wanted)]
    return found


def check_metrics(rows: Sequence[RunListing], metrics: Iterable[str]) -> None:
    """Raise ConfigError for a metric that no run has recorded."""
    known = sorted({key for row in rows for key in row.metrics})
    for metric in metrics if rows else ():
        if metric not in known:
            from paribus.core.build import did_you_mean  # pydantic comes with it, and only a mistake needs it

            near = did_you_mean(metric, known)
            raise ConfigError(f"{metric}: no run has recorded it{near}; there are {', '.join(known) or 'none'}")


def sort_runs(rows: Sequence[RunListing], by: str | None) -> list[RunListing]:
    """By a metric, the best first; those without it come last. Raises ConfigError for an unknown one."""
    if by is None:
        return list(rows)
    check_metrics(rows, [by])
    sign = 1 if is_lower_better(by) else -1
    return sorted(rows, key=lambda row: sign * row.metrics[by] if by in row.metrics else math.inf)


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _row(path: Path, read: Callable[[str], dict[str, Any]]) -> RunListing:
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
    config = _config(path / runfolder.CONFIG, read, damaged)
    total, length = summary.get("steps"), str(config.get("steps", ""))
    if not isinstance(total, int):
        total = int(length[:-2]) if length.endswith("ba") else None
    started = str(first["time"]) if isinstance(first, dict) and "time" in first else None
    notes = [text for text in (note, f"damaged: {', '.join(damaged)}" if damaged else "") if text]
    step, note = max(steps, default=0), "; ".join(notes)
    return RunListing(path.name, state, step, total, length, metrics, started, note, config)


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


def _config(path: Path, read: Callable[[str], dict[str, Any]], damaged: list[str]) -> dict[str, Any]:
    try:
        found = read(path.read_text())
    except (OSError, ValueError):  # UnicodeDecodeError is one
        found = {}
    if not re.fullmatch(r"\d+(ep|ba)", str(found.get("steps"))):
        damaged.append(path.name)
        return {}
    return found


def _count(rows: Sequence[RunListing]) -> str:
    states = [row.state for row in rows]
    counts = [f"{states.count(state)} {state}" for state in COLOURS if state in states]
    return f"{len(rows)} run{'s' * (len(rows) != 1)} ({', '.join(counts)})"
