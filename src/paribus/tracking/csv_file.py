"""metrics.csv: the record as one wide table, for pandas, spreadsheets and whoever knows Lightning's CSVLogger.

A mirror of events.jsonl. A step has one row, a metric one column, empty where it was not measured. A metric that
appears later is a new column, for which the file is written again from the record.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paribus.core.build import schema
from paribus.core.events import read_events
from paribus.core.runfolder import EVENTS, METRICS, write_atomically


class CSVLog:
    """Appends rows. Opening it brings the file to what the record says, which after a resume is less than before."""

    def __init__(self, folder: Path) -> None:
        self._record, self._path = folder / EVENTS, folder / METRICS
        self._columns: dict[str, None] = {}
        self._rewrite()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if values.keys() <= self._columns.keys() and self._path.exists():
            with open(self._path, "a", newline="", encoding="utf-8") as file:
                file.write(self._format_rows([{"step": step, **values}]))
        else:
            self._rewrite()  # the record already has this step

    def close(self, summary: Mapping[str, Any]) -> None: ...

    def _rewrite(self) -> None:
        rows = [{"step": event["step"], **event["values"]} for event in read_events(self._record)]
        self._columns = dict.fromkeys(["step", *(key for row in rows for key in row)])
        write_atomically(self._path, self._format_rows([{key: key for key in self._columns}, *rows]))

    def _format_rows(self, rows: list[dict[str, Any]]) -> str:
        out = io.StringIO()
        csv.DictWriter(out, list(self._columns), restval="", lineterminator="\n").writerows(rows)
        return out.getvalue()


@schema
class CSV:
    """metrics.csv in the run folder."""

    def __call__(self, folder: Path, start: int, total: int) -> CSVLog:
        return CSVLog(folder)
