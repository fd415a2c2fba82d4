"""A case, measured: every implementation is made and checked, and those that are right are timed in turns."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from paribus.bench.harness.implementation import Case, Contender, Prepared, Status, Target, Unavailable, version
from paribus.bench.harness.timing import clock_of, interleaved, peak_bytes


@dataclass(frozen=True)
class Row:
    """What was found of one implementation. seconds: a call, one of each round. peak: bytes, on CUDA."""

    name: str
    package: str
    kind: str
    version: str | None
    status: Status
    error: float | None = None
    seconds: tuple[float, ...] = ()
    peak: int | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        return quartiles(self.seconds)


@dataclass(frozen=True)
class Verdict:
    """A target and what was found: `ratio` of the two times, and the middle half of it over the rounds."""

    target: Target
    ratio: float | None = None
    middle_half: tuple[float, float] | None = None

    @property
    def status(self) -> str:
        if self.ratio is None or self.middle_half is None:
            return "not measured"
        excess = self.ratio / self.target.at_most - 1
        word = "met" if excess <= 0 else f"missed by {excess:.{0 if excess >= 0.01 else 1}%}"
        low, high = self.middle_half
        return f"{word} (within the spread)" if low <= self.target.at_most <= high else word


@dataclass(frozen=True)
class Result:
    case: Case
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @property
    def baseline(self) -> Row | None:
        """The row whose time is 1, if it was measured."""
        if self.case.baseline is None:
            return self.fastest_public
        return next((row for row in self.rows if row.seconds and row.name == self.case.baseline), None)

    @property
    def fastest_public(self) -> Row | None:
        public = (row for row in self.rows if row.seconds and row.kind == "public")
        return min(public, key=lambda row: row.median, default=None)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(self._verdict(target) for target in self.case.targets)

    @property
    def right(self) -> bool:
        return not any(row.status in ("wrong", "failed") for row in self.rows)

    def _verdict(self, target: Target) -> Verdict:
        subject = self.row(target.subject)
        against = self.fastest_public if target.against is None else self.row(target.against)
        if against is None or not subject.seconds or not against.seconds:
            return Verdict(target)
        paired = ratios(subject, against)
        return Verdict(target, statistics.median(paired), quartiles(paired))


def ratios(row: Row, baseline: Row) -> list[float]:
    """Of the two times, round by round: what slows a whole round down cancels."""
    return [a / b for a, b in zip(row.seconds, baseline.seconds, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The bounds of the middle half."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def measure(case: Case, device: torch.device, rounds: int, least: float) -> Result:
    """Make, check and time the case's implementations. least: seconds a sample lasts at the least."""
    admitted = [_admitted(contender, case.tolerance) for contender in case.contenders]
    ready = {row.name: prepared for row, prepared in admitted if prepared is not None}
    calls = {name: prepared.call for name, prepared in ready.items()}
    sessions = {name: (prepared.session, prepared.fewest) for name, prepared in ready.items()}
    seconds = interleaved(calls, clock_of(device), rounds, least, sessions)
    peaks = {name: _peak(prepared, device) for name, prepared in ready.items()}
    rows = (
        replace(row, seconds=seconds[row.name], peak=peaks[row.name]) if row.name in ready else row
        for row, _ in admitted
    )
    return Result(case, tuple(rows))


def _peak(prepared: Prepared, device: torch.device) -> int | None:
    with prepared.session():
        return peak_bytes(prepared.call, device)


def _admitted(contender: Contender, tolerance: float) -> tuple[Row, Prepared | None]:
    """The row without times, and the implementation if it may be timed."""
    row = Row(contender.name, contender.package, contender.kind, version(contender.package), "measured")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            prepared = contender.prepare()
            error = float(prepared.error())
    except Unavailable as absent:
        return replace(row, status=absent.status, note=absent.reason), None
    except Exception as failure:  # somebody else's code, in versions nobody here has seen
        return replace(row, status="failed", note=_one_line(failure)), None
    # a fast path that falls back says so in a warning, and its time is then another thing's
    told = [prepared.note] if prepared.note else []
    minor = DeprecationWarning | ResourceWarning
    told += dict.fromkeys(_one_line(w.message) for w in caught if not isinstance(w.message, minor))
    row = replace(row, error=error, note="; ".join(told))
    if not math.isfinite(error) or error > tolerance:
        return replace(row, status="wrong"), None
    return row, prepared


def _one_line(error: BaseException | str) -> str:
    text = " ".join(str(error).split())
    name = f"{type(error).__name__}: " if isinstance(error, Exception) and not isinstance(error, Warning) else ""
    return name + (text if len(text) <= 160 else text[:157] + "...")
