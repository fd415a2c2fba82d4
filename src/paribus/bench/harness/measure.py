"""Measures a case: every implementation is made and checked, and the correct ones are timed in turns."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from paribus.bench.harness.implementation import (
    Case,
    Implementation,
    PreparedImplementation,
    SpeedTarget,
    Status,
    Unavailable,
    version,
)
from paribus.bench.harness.timing import make_clock, peak_bytes, time_interleaved


@dataclass(frozen=True)
class Measurement:
    """The result for one implementation. seconds: per call, one entry per round. peak: bytes, on CUDA."""

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
class TargetVerdict:
    """A target and its result: `ratio` of the two times, and the middle half of it over the rounds."""

    target: SpeedTarget
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
    rows: tuple[Measurement, ...]

    def row(self, name: str) -> Measurement:
        return next(row for row in self.rows if row.name == name)

    @property
    def baseline(self) -> Measurement | None:
        """The row whose time is 1, if it was measured."""
        if self.case.baseline is None:
            return self.fastest_public
        return next((row for row in self.rows if row.seconds and row.name == self.case.baseline), None)

    @property
    def fastest_public(self) -> Measurement | None:
        public = (row for row in self.rows if row.seconds and row.kind == "public")
        return min(public, key=lambda row: row.median, default=None)

    @property
    def verdicts(self) -> tuple[TargetVerdict, ...]:
        return tuple(self._judge_target(target) for target in self.case.targets)

    @property
    def is_correct(self) -> bool:
        return not any(row.status in ("wrong", "failed") for row in self.rows)

    def _judge_target(self, target: SpeedTarget) -> TargetVerdict:
        subject = self.row(target.subject)
        against = self.fastest_public if target.against is None else self.row(target.against)
        if against is None or not subject.seconds or not against.seconds:
            return TargetVerdict(target)
        paired = ratios(subject, against)
        return TargetVerdict(target, statistics.median(paired), quartiles(paired))


def ratios(row: Measurement, baseline: Measurement) -> list[float]:
    """Of the two times, round by round: whatever slows down a whole round cancels."""
    return [a / b for a, b in zip(row.seconds, baseline.seconds, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The bounds of the middle half."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def measure(case: Case, device: torch.device, rounds: int, min_seconds: float) -> Result:
    """Make, check and time the case's implementations. min_seconds: the shortest duration of a sample."""
    checked = [_prepare_and_check(implementation, case.tolerance) for implementation in case.implementations]
    ready = {row.name: prepared for row, prepared in checked if prepared is not None}
    calls = {name: prepared.call for name, prepared in ready.items()}
    sessions = {name: (prepared.session, prepared.min_calls) for name, prepared in ready.items()}
    seconds = time_interleaved(calls, make_clock(device), rounds, min_seconds, sessions)
    peaks = {name: _measure_peak(prepared, device) for name, prepared in ready.items()}
    rows = (
        replace(row, seconds=seconds[row.name], peak=peaks[row.name]) if row.name in ready else row
        for row, _ in checked
    )
    return Result(case, tuple(rows))


def _measure_peak(prepared: PreparedImplementation, device: torch.device) -> int | None:
    with prepared.session():
        return peak_bytes(prepared.call, device)


def _prepare_and_check(
    implementation: Implementation, tolerance: float
) -> tuple[Measurement, PreparedImplementation | None]:
    """The row without times, and the implementation if it may be timed."""
    row = Measurement(
        implementation.name, implementation.package, implementation.kind, version(implementation.package), "measured"
    )
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            prepared = implementation.prepare()
            error = float(prepared.error())
    except Unavailable as unavailable:
        return replace(row, status=unavailable.status, note=unavailable.reason), None
    except Exception as failure:  # other people's code, in versions that were never tested here
        return replace(row, status="failed", note=_format_one_line(failure)), None
    # a fast path that falls back says so in a warning, and its time is then that of the fallback
    notes = [prepared.note] if prepared.note else []
    minor = DeprecationWarning | ResourceWarning
    notes += dict.fromkeys(_format_one_line(w.message) for w in caught if not isinstance(w.message, minor))
    row = replace(row, error=error, note="; ".join(notes))
    if not math.isfinite(error) or error > tolerance:
        return replace(row, status="wrong"), None
    return row, prepared


def _format_one_line(error: BaseException | str) -> str:
    text = " ".join(str(error).split())
    name = f"{type(error).__name__}: " if isinstance(error, Exception) and not isinstance(error, Warning) else ""
    return name + (text if len(text) <= 160 else text[:157] + "...")
