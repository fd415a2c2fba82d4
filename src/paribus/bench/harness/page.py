"""What a bench returns for its page."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paribus.bench.harness.measure import Result


@dataclass(frozen=True)
class BenchReport:
    """What a bench found: its page's title, results, and what else the page contains. remarks: paragraphs at the top.
    tables: of title, text, columns, lines. methodology: how it was measured, if not as METHODOLOGY in
    bench/harness/table.py says."""

    title: str
    results: "Sequence[Result]"
    remarks: Sequence[str] = ()
    tables: Sequence[dict[str, Any]] = field(default_factory=list)
    methodology: str = ""


def log_progress(line: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)
