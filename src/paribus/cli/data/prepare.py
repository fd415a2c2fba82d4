"""`paribus data prepare`: check and pack a data set's image tree. Needs no torch (downloading does)."""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from paribus.cli.data.common import describe_pixels, root_folder
from paribus.core.cores import count_cores
from paribus.core.exit_codes import OK
from paribus.core.long_step import long_step
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.data.packs.write import ProgressSink


def run(args: argparse.Namespace) -> int:
    request = PrepareRequest(
        name=args.name,
        root=root_folder(args),
        size=args.size,
        out=args.out,
        workers=args.workers or count_cores(),
        download=args.download,
        skip=args.on_error == "skip",
        allow_missing=args.allow_missing,
        names=args.list,
        channels=int(args.channels),
    )
    with _progress() as (progress, rate):
        record = prepare(request, progress)
    counts = ", ".join(f"{split} {s.images:,}" for split, s in record.splits.items())
    print(f"{request.folder}: {describe_pixels(record)}: {counts}, {len(record.classes):,} classes{rate()}")
    print(f"chosen: {record.rule.get('chosen', '')}")
    for reason in (reason for s in record.splits.values() for reason in s.skipped):
        print(f"skipped: {reason}")
    if skipped := sum(len(s.skipped) for s in record.splits.values()):
        print(f"{skipped:,} images skipped, listed above and in {request.folder / 'pack.json'}")
    return OK


@contextmanager
def _progress() -> Iterator[tuple[ProgressSink, Callable[[], str]]]:
    """Where progress is reported (lines, and a bar on a terminal), and a function that describes the speed."""
    done, since = 0, time.perf_counter()
    with ExitStack() as stack:

        def begin(total: int, before: int) -> Callable[[int], None]:
            nonlocal since
            since = time.perf_counter()
            show = stack.enter_context(long_step("packing", total, "images"))
            show(before)

            def advance(n: int) -> None:
                nonlocal done
                done += n
                show(n)

            return advance

        yield ProgressSink(print, begin), lambda: _describe_rate(done, time.perf_counter() - since)


def _describe_rate(images: int, seconds: float) -> str:
    return f"; packed {images:,} in {seconds:.1f} s ({images / seconds:,.0f} per second)" if images else ""
