"""`paribus predict RUN PATH...`: class and probabilities of image files, as CSV or JSON lines."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from paribus.cli.arguments.trained import PREDICT_KEYS
from paribus.cli.options import path
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import FAILED, OK
from paribus.core.formatting import format_count
from paribus.core.terminal import find_console
from paribus.data.trees.files import list_image_files
from paribus.runs.predict import PredictedBatch, PredictionWriter, open_predictor
from paribus.runs.saved_run import load_saved_run


def run(args: argparse.Namespace) -> int:
    overrides = [word for word in args.paths if _is_override(word)]
    named = [path(word) for word in args.paths if word not in overrides]
    if not named:
        raise ConfigError("predict: no image file or folder is named; paribus predict RUN PATH...")
    files = list_image_files(named)
    predictor = open_predictor(load_saved_run(args.run, overrides, PREDICT_KEYS), args.batch_size)
    failed = 0
    # a bar would run into the rows where they appear on the same terminal
    is_shown = args.out is not None or not sys.stdout.isatty()
    with _open_output(args.out) as out, _progress(len(files), is_shown) as advance:
        writer = PredictionWriter(out, predictor.classes, args.format == "jsonl", args.top)
        for batch in predictor.predict(files):
            writer.write(batch)
            advance(batch)
            for _, reason in batch.errors:
                print(f"paribus: {reason}", file=sys.stderr)
            failed += len(batch.errors)
            if getattr(out, "failure", None) is not None:  # `| head` has all that it wanted
                break
    if failed:
        print(f"paribus: {failed:,} of {format_count(len(files), 'file')} failed", file=sys.stderr)
    return FAILED if failed else OK


def _is_override(word: str) -> bool:
    """A path may have an = in it, too."""
    key, assigned, _ = word.partition("=")
    is_key = any(key == known or (known.endswith(".") and key.startswith(known)) for known in PREDICT_KEYS)
    return bool(assigned) and (is_key or not ("/" in key or Path(word).exists()))


@contextmanager
def _open_output(file: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that appears once it is complete."""
    if file is None:
        yield sys.stdout
        return
    temporary = file.with_name(f"{file.name}.tmp-{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", newline="") as out:
            yield out
        os.replace(temporary, file)
    except OSError as error:
        raise ConfigError(f"--out: {file} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _progress(total: int, is_shown: bool) -> Iterator[Callable[[PredictedBatch], None]]:
    """A bar on standard error where that is a terminal; what it gives is told of each batch."""
    console = find_console(sys.stderr) if is_shown else None
    if console is None:
        yield lambda batch: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    bar = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True)
    with bar:
        task = bar.add_task("", total=total)
        yield lambda batch: bar.advance(task, len(batch.paths) + len(batch.errors))
