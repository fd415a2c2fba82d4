"""The table of `paribus list runs`: what differs, metrics, times; its columns on a terminal, or whole for files."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from paribus.cli.run_differences import format_value, shorten
from paribus.runs.differences import find_differences

COLOURS = {"done": "green", "running": "cyan", "failed": "red", "preempted": "yellow", "stopped": "yellow"}


@dataclass(frozen=True)
class RunListing:
    """A run folder at a glance.

    state: done, failed, preempted, running (a process holds it) or stopped (none does, and it did not finish).
    step: of the newest checkpoint or record. total: steps, None where only the length in epochs is known so far.
    note: why it failed, who holds it, what is damaged. started: ISO 8601, of the first start.
    config: dotted key -> value; {} where it is damaged.
    """

    run: str
    state: str
    step: int
    total: int | None
    length: str
    metrics: Mapping[str, float]
    started: str | None
    note: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """give_up: which columns a narrow terminal loses first, the highest; 0 stays."""

    name: str
    tell: Callable[[RunListing], str]
    right: bool = False
    give_up: int = 0


def choose_columns(rows: Sequence[RunListing], metrics: Sequence[str] = ()) -> list[Column]:
    """metrics: to show instead of val/acc1."""
    keys = find_differences([row.config for row in rows])
    short = shorten(keys, {key for row in rows for key in row.config})
    # the name of a run folder has these two already
    rank = {key: 90 + i if key in ("seed", "techniques") else 10 + i for i, key in enumerate(keys)}
    return [
        Column("run", lambda row: row.run),
        Column("state", lambda row: row.state),
        Column("step", lambda row: f"{row.step}/{row.total or row.length or '?'}", right=True),
        *(Column(short[key], _tell_value(key), give_up=rank[key]) for key in keys),
        *(Column(metric, _tell_metric(metric), right=True) for metric in metrics),
        *([] if metrics else [Column("val acc1", _tell_metric("val/acc1"), right=True)]),
        Column("train s", _tell_seconds, right=True, give_up=98),
        Column("started", lambda row: _local(row.started), give_up=99),
    ]


def _tell_value(key: str) -> Callable[[RunListing], str]:
    return lambda row: format_value(row.config[key]) if key in row.config else ""


def _tell_metric(name: str) -> Callable[[RunListing], str]:
    return lambda row: format_metric(name, row.metrics[name]) if name in row.metrics else ""


def _tell_seconds(row: RunListing) -> str:
    return f"{row.metrics['time/train_s']:.1f}" if "time/train_s" in row.metrics else ""


def format_metric(name: str, value: float) -> str:
    """
    >>> format_metric("val/acc1", 0.98765), format_metric("val/loss", 0.0623)
    ('98.77%', '0.0623')
    """
    return f"{value:.2%}" if name.rpartition("/")[2].startswith("acc") else f"{value:.4g}"


def is_lower_better(metric: str) -> bool:
    """
    >>> is_lower_better("val/acc1"), is_lower_better("val/loss_without_ema"), is_lower_better("time/train_s")
    (False, True, True)
    """
    group, _, name = metric.partition("/")
    return "loss" in name or group in ("time", "memory")


def _local(time: str | None) -> str:
    """In the local time zone."""
    with suppress(ValueError, TypeError):
        return datetime.fromisoformat(time or "").astimezone().strftime("%Y-%m-%d %H:%M")
    return ""


def plain(rows: Sequence[RunListing], metrics: Sequence[str] = ()) -> list[str]:
    """Aligned columns, nothing cut, for files and other programs."""
    columns = [*choose_columns(rows, metrics), Column("note", lambda row: row.note)]
    lines = [[column.name for column in columns], *([column.tell(row) for column in columns] for row in rows)]
    return align(lines, right=[i for i, column in enumerate(columns) if column.right])


def align(lines: Sequence[Sequence[str]], right: Collection[int]) -> list[str]:
    """Lines of cells as text, each column as wide as its widest cell. right: the columns of numbers."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def table(rows: Sequence[RunListing], width: int, metrics: Sequence[str] = ()) -> Any:
    """The same as a table of rich's. Where even the columns that stay do not fit, names wrap."""
    from rich.table import Table
    from rich.text import Text

    shown = choose_columns(rows, metrics)
    cells = {id(column): [column.tell(row) for row in rows] for column in shown}
    widths = {id(column): max(len(column.name), *map(len, cells[id(column)])) for column in shown}
    while sum(widths[id(column)] + 2 for column in shown) - 2 > width:
        column = max(shown, key=lambda column: column.give_up)
        if not column.give_up:
            break
        shown.remove(column)
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in shown:
        made.add_column(
            column.name,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=column.name != "run",
            min_width=min(12, widths[id(column)]) if column.name == "run" else widths[id(column)],
        )
    for i, row in enumerate(rows):
        made.add_row(*(Text(cells[id(c)][i], style=COLOURS[row.state] if c.name == "state" else "") for c in shown))
    return made
