"""results.jsonl: one row per run, made from its run folder; committed, so that a study's numbers outlive its folders.

`metrics` and `curves` are bit-exact when repeated; `cost` and `hardware` are those of the machine it ran on.
"""

import fcntl
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.events import read_events
from paribus.study.jsonl import read_lines
from paribus.study.spec import SPEC, Study

SCHEMA = 1
_CLOCK_PREFIXES = ("time/", "throughput/", "memory/")
_NOT_EVALUATED = {"train", "lr", "time", "throughput", "memory"}  # first parts of the keys that training itself records


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run. id: of its recipe. state: done or failed, with the reason in `why`, one line.

    metrics: as of the last step, without clocks; {} where that was not reached. curves: key -> (step, value) at every
    evaluation; a training metric is taken from the log line at or before it. cost: train_s, eval_s (seconds),
    samples_per_sec (median over log windows), peak_gb, parameters, macs; None where unknown. segments: how
    often it was started; mixed: whether two of them may differ in the last bits. dirty: whether the checkout had
    uncommitted changes. started: in ISO 8601. notes: by evaluator, what it says its numbers are of; {} for most.
    """

    study: str
    arm: str
    seed: int
    id: str
    state: str
    metrics: Mapping[str, float]
    curves: Mapping[str, list[list[float]]]
    cost: Mapping[str, float | None]
    steps: int
    sizes: Mapping[str, int]
    data_checksum: str
    fingerprint: Mapping[str, Any]
    segments: int
    mixed: bool
    commit: str | None
    dirty: bool
    hardware: Mapping[str, Any]
    why: str = ""
    started: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def cell(self) -> str:
        return f"{self.arm}/s{self.seed}"

    @property
    def repeats_bits(self) -> bool:
        """Whether another run of the recipe on equal hardware and code has the same bits. CUDA has to be told to."""
        return not self.hardware.get("gpu") or bool(self.fingerprint.get("deterministic"))


def read_rows(path: Path) -> list[Row]:
    """The rows of a results.jsonl; [] if there is none. Raises ConfigError for a damaged or newer one."""
    lines = read_lines(path, SCHEMA, "restore it from git or from a copy")
    names = {field.name for field in fields(Row)}
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(Row(**{key: value for key, value in line.items() if key in names}))
        except TypeError as error:
            raise ConfigError(f"{path}: line {number} is not a row: {error}") from error
    if twice := [cell for cell, n in Counter(row.cell for row in rows).items() if n > 1]:
        raise ConfigError(f"{path}: has more than one row of {twice[0]}; a cell has one, so remove the wrong one")
    return rows


def read_row(folder: Path, study: str, arm: str) -> Row | None:
    """The row of a run that is done or failed; None for one that is neither. Raises ConfigError if damaged."""
    state = runfolder.read_state(folder)
    summary = runfolder.read_json(folder / runfolder.SUMMARY)
    if state not in ("DONE", "FAILED") or not summary:
        return None
    segments = runfolder.read_segments(folder) or [{}]
    try:
        return _build_row(folder, study, arm, state, summary, segments)
    except (KeyError, TypeError, AttributeError, IndexError) as error:  # JSON, but not what a run writes
        raise ConfigError(f"{folder} is damaged: its summary or record is incomplete ({error!r})") from error


def _build_row(
    folder: Path, study: str, arm: str, state: str, summary: dict[str, Any], segments: list[dict[str, Any]]
) -> Row:
    last = segments[-1]
    events = read_events(folder / runfolder.EVENTS)
    values = summary["metrics"]
    if state == "DONE" and (not events or events[-1]["step"] < summary["step"]):
        # the last lines were lost after the run ended; the summary still has the final values
        events.append({"step": summary["step"], "values": values})
    first_line = (folder / state).read_text(errors="replace").partition("\n")[0]
    return Row(
        study=study,
        arm=arm,
        seed=summary["seed"],
        id=summary["id"],
        state=state.lower(),
        metrics=_drop_clocks(values) if state == "DONE" else {},
        curves=extract_curves(events),
        cost=_collect_cost(values, events, summary.get("model", {})),
        steps=summary["steps"],
        sizes=summary["sizes"],
        data_checksum=summary["data_checksum"],
        fingerprint=last.get("fingerprint", {}),
        segments=len(segments),
        mixed=any(_numerics(segment) != _numerics(last) for segment in segments),
        commit=last.get("commit"),
        dirty=bool(last.get("dirty")),
        hardware={key: last.get(key) for key in ("cpu", "cores", "gpu")},
        why=first_line if state == "FAILED" else "",
        started=segments[0].get("time"),
        notes=read_notes(runfolder.read_json(folder / runfolder.EVALUATION)) if state == "DONE" else {},
    )


def read_notes(details: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """By evaluator, what it says its numbers are of. details: of an evaluation (core/evaluation.py)."""
    found = {name: [d["text"]["text"] for d in given.values() if "text" in d] for name, given in details.items()}
    return {name: " ".join(texts) for name, texts in sorted(found.items()) if texts}


def format_row(row: Row) -> str:
    """Its line of results.jsonl. Notes only where there are any, so that earlier lines stay as they are."""
    values = asdict(row)
    return json.dumps({"schema": SCHEMA, **{k: v for k, v in values.items() if k != "notes" or v}}) + "\n"


def _numerics(segment: Mapping[str, Any]) -> tuple[Any, Any]:
    """What can change the bits of a segment beside its recipe: of what is computed on a GPU not the processor."""
    return segment.get("fingerprint"), None if segment.get("gpu") else segment.get("cpu")


def _drop_clocks(values: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in sorted(values.items()) if not key.startswith(_CLOCK_PREFIXES)}


def extract_curves(events: Iterable[Mapping[str, Any]]) -> dict[str, list[list[float]]]:
    """key -> [step, value] at every event that evaluated something."""
    curves: dict[str, list[list[float]]] = {}
    training: dict[str, float] = {}
    for event in events:
        values: Mapping[str, float] = event["values"]
        training |= {key: value for key, value in values.items() if key.startswith("train/")}
        measured = {key: value for key, value in values.items() if key.partition("/")[0] not in _NOT_EVALUATED}
        if measured:
            for key, value in sorted({**training, **measured}.items()):
                curves.setdefault(key, []).append([event["step"], value])
    return curves


def _collect_cost(
    values: Mapping[str, float], events: list[dict[str, Any]], model: Mapping[str, Any]
) -> dict[str, Any]:
    key = "throughput/samples_per_sec"
    speeds = [event["values"][key] for event in events if key in event["values"]]
    return {
        "train_s": values.get("time/train_s"),
        "eval_s": values.get("time/eval_s"),
        "samples_per_sec": statistics.median(speeds) if speeds else None,
        "peak_gb": values.get("memory/peak_gb"),
        "parameters": model.get("parameters"),
        "macs": model.get("macs"),
    }


def package_digests(row: Row) -> dict[str, str]:
    """Digests of the sources of the user's own packages that a row was made with; {} where none is on record."""
    return {name: str(digest) for name, digest in (row.fingerprint.get("packages") or {}).items() if digest}


def differing_sources(a: Row, b: Row) -> tuple[str, ...]:
    """The user's packages whose source differs between two rows, or is on record for one of them alone. Rows of which
    this names any were computed by different code, so that equal numbers do not show that one repeats the other."""
    one, other = package_digests(a), package_digests(b)
    return tuple(name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name))


def outdated_rows(rows: Iterable[Row], current: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Package -> cells whose rows were made by another source of it than the current one. current: name -> digest,
    None where it cannot be found here."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for name, digest in package_digests(row).items():
            if current.get(name) not in (None, digest):
                found.setdefault(name, []).append(row.cell)
    return found


def update_rows(study: Study, new: Iterable[Row], planned: Mapping[str, str], path: Path | None = None) -> list[Row]:
    """Put rows into results.jsonl in the place of earlier ones of their cells; others stay. Returns all of them.

    planned: name -> recipe id of every cell, in the order of the file. A failure of another recipe than the planned one
    is dropped, since the recipe that failed was changed. path: another file than the study's, for rows of a repeat.
    Raises ConfigError, and leaves the file unchanged, if it is damaged or newer, or the disk is full.
    """
    path = path or study.results_path
    place = {name: i for i, name in enumerate(planned)}
    try:
        with lock_study(study):
            before = read_rows(path)
            rows = {row.cell: row for row in before if row.state == "done" or planned.get(row.cell, row.id) == row.id}
            rows |= {row.cell: row for row in new if not _is_truncated(row, rows.get(row.cell))}
            after = sorted(rows.values(), key=lambda row: (place.get(row.cell, len(place)), row.arm, row.seed))
            if after != before:
                runfolder.write_atomically(path, "".join(map(format_row, after)))
            return after
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}; make room and run the same command again"
        ) from error


def _is_truncated(row: Row, recorded: Row | None) -> bool:
    """Whether the record of a run was damaged after its row had been written: then the row has more."""
    if recorded is None or recorded.id != row.id or recorded.state != "done":
        return False
    return row.state != "done" or (
        recorded.metrics == row.metrics and sum(map(len, row.curves.values())) < sum(map(len, recorded.curves.values()))
    )


@contextmanager
def lock_study(study: Study) -> Iterator[None]:
    """One process at a time on the rows and looks of a study. The lock is on study.yaml, which is there and is never
    replaced."""
    with open(study.folder / SPEC, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
