"""What `paribus eval --per-class` and `--confusion` show of a confusion matrix: lines, CSV files and a picture."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from paribus.core.errors import ConfigError
from paribus.core.formatting import DASH
from paribus.core.runfolder import create_folder, write_atomically

MOST_IN_TERMINAL = 20  # classes whose matrix is printed
_MOST_NAMED = 120  # classes whose names are beside the picture; more would make it larger than viewers open
_MOST_COUNTED = 30  # classes whose counts are in the picture
_COLUMN = 8  # characters of a class's name over its column


def list_per_class(names: Sequence[str], counts: Tensor) -> list[tuple[str, int, int, float | None]]:
    """Name, images, those that were recognised, and their share (None of a class without images), for each class."""
    images, correct = counts.sum(1).tolist(), counts.diagonal().tolist()
    return [(name, n, k, k / n if n else None) for name, n, k in zip(names, images, correct, strict=True)]


def format_per_class(names: Sequence[str], counts: Tensor) -> list[str]:
    """A table for the terminal, with all classes together as its last line."""
    rows = [("class", "images", "correct", "accuracy")]
    every = ("all", int(counts.sum()), int(counts.diagonal().sum()))
    for name, n, k, share in (*list_per_class(names, counts), (*every, every[2] / every[1] if every[1] else None)):
        rows.append((name, f"{n:,}", f"{k:,}", DASH if share is None else f"{share:.4f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def format_confusion(names: Sequence[str], counts: Tensor) -> list[str]:
    """A table for the terminal: a line for each true class, a column for each predicted one."""
    heads = [name if len(name) <= _COLUMN else name[: _COLUMN - 1] + "…" for name in names]
    cells = [[f"{n:,}" if n else "·" for n in row] for row in counts.tolist()]
    widths = [max(len(head), *(len(row[i]) for row in cells)) for i, head in enumerate(heads)]
    first = max(len("true \\ predicted"), *map(len, names))
    lines = [("true \\ predicted", heads), *zip(names, cells, strict=True)]
    return [
        "  ".join([name.ljust(first), *(cell.rjust(w) for cell, w in zip(row, widths, strict=True))])
        for name, row in lines
    ]


def write_per_class(path: Path, names: Sequence[str], counts: Tensor) -> Path:
    """As CSV; the accuracy of a class without images is empty."""
    rows = [(*row[:3], "" if row[3] is None else repr(row[3])) for row in list_per_class(names, counts)]
    return _write(path, _to_csv([("class", "images", "correct", "accuracy"), *rows]))


def write_confusion(path: Path, names: Sequence[str], counts: Tensor) -> Path:
    """As CSV: a row for each true class, a column for each predicted one."""
    rows = [(name, *row) for name, row in zip(names, counts.tolist(), strict=True)]
    return _write(path, _to_csv([("true class", *names), *rows]))


def draw_confusion(path: Path, names: Sequence[str], counts: Tensor, title: str) -> Path:
    """As PNG on white: the share of each true class that was taken for each class, with counts where there is room."""
    from paribus.study.report.figures.style import (
        FAINT,
        INK,
        fit_name,
        new_figure,
        render_png,
        style_context,
        text_width,
    )

    n = len(names)
    cell = 34.0 if n <= _MOST_COUNTED else 14.0 if n <= _MOST_NAMED else 900 / n
    with style_context():
        shown = [fit_name(name, 150) for name in names] if n <= _MOST_NAMED else []
        margin = max([text_width(name) for name in shown], default=40.0) + 34
        side, above = max(cell * n, 160.0), 34.0
        figure = new_figure(width := margin + side + 16, height := above + side + margin)
        axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
        axes.grid(False)
        share = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
        axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        if shown:
            axes.set_xticks(range(n), shown, rotation=90)
            axes.set_yticks(range(n), shown)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.tick_params(length=0, labelcolor=INK)
        figure.text(8 / width, 1 - 8 / height, title, ha="left", va="top", color=FAINT)
        for i, row in enumerate(counts.tolist() if n <= _MOST_COUNTED else ()):
            for j, count in enumerate(row):
                if count:
                    light = share[i, j] > 0.5
                    axes.text(j, i, f"{count:,}", ha="center", va="center", size=8.5, color="white" if light else INK)
        return _write(path, render_png(figure))


def _to_csv(rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _write(path: Path, content: bytes | str) -> Path:
    try:
        with create_folder(path.parent):
            write_atomically(path, content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; --out DIR chooses another folder") from error
    return path
