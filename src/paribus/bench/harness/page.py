"""What a bench hands back for its page."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paribus.bench.harness.measure import Result


@dataclass(frozen=True)
class BenchReport:
    """What a bench found: its page's title, results, and what else the page tells. remarks: paragraphs at the top.
    tables: of title, text, columns, lines. how: it was measured, where that is not bench/harness/table.py's HOW."""

    title: str
    results: "Sequence[Result]"
    remarks: Sequence[str] = ()
    tables: Sequence[dict[str, Any]] = field(default_factory=list)
    methodology: str = ""


def log_progress(line: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)
