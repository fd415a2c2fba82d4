"""Comparison of the numbers of a run and of its replay, step by step. Pure functions, no torch."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paribus.core.runfolder import EVENTS, RECEIPTS, SUMMARY
from paribus.engine.receipt import ReceiptLine, iterate_steps

Value = float | str
Key = tuple[int, int, str]  # step; kind: 0 loss, 1 gradient norm, 2 checksum, 3 events.jsonl, 4 summary.json; name
LOSS, EVENT, FINAL = 0, 3, 4
_FILES = (RECEIPTS, RECEIPTS, RECEIPTS, EVENTS, SUMMARY)  # by kind


@dataclass(frozen=True)
class Difference:
    """What a value was and is. relative: |then − now| / max(|then|, |now|), 0–2, and 2 where one is not finite; None
    for a checksum. file: that it is recorded in."""

    step: int
    name: str
    then: Value
    now: Value
    relative: float | None
    file: str = RECEIPTS


@dataclass(frozen=True)
class Agreement:
    """What was compared and what differs.

    losses, norms, checksums, metrics, final: how many were compared; metrics are those of events.jsonl, final those of
    summary.json. first: the first that differs in a bit.
    first_beyond_tolerance: the first that differs by more than the tolerance. largest: the largest relative difference.
    last_sound_step: of the last checkpoint before `first` all of whose checksums are equal; 0 for the initialisation,
    or where the replay began.
    """

    losses: int
    norms: int
    checksums: int
    metrics: int
    final: int
    first: Difference | None
    first_beyond_tolerance: Difference | None
    largest: Difference | None
    last_sound_step: int

    @property
    def is_exact(self) -> bool:
        return self.first is None


def collect_values(
    lines: Iterable[ReceiptLine], pending: Iterable[tuple[int, Mapping[str, float]]] = ()
) -> dict[Key, Value]:
    """All values of a receipt, in order. pending: losses of steps that are in no line yet."""
    found: dict[Key, Value] = {}
    for line in lines:
        for step, losses in iterate_steps(line):
            found |= {(step, 0, name): value for name, value in losses.items()}
        if line.get("gradient_norm") is not None:
            found[line["step"], 1, "gradient norm"] = float(line["gradient_norm"])
        found |= {(line["step"], 2, name): value for name, value in line.get("checksums", {}).items()}
    for step, losses in pending:
        found |= {(step, 0, name): value for name, value in losses.items()}
    return found


def compare_receipts(
    then: Mapping[Key, Value], now: Mapping[Key, Value], begin: int, end: int, tolerance: float
) -> Agreement:
    """Compare what both have of the steps after `begin`, up to and including `end`."""
    keys = sorted(key for key in then.keys() & now.keys() if begin < key[0] <= end)
    differing = list(_find_differences(keys, then, now))
    numbers = [d for d in differing if d.relative is not None]
    beyond = [d for d in differing if (d.relative or 0) > tolerance or (tolerance == 0 and d.relative is None)]
    first = differing[0] if differing else None
    wrong = {d.step for d in differing if d.relative is None}
    sound = {step for step, kind, _ in keys if kind == 2 and step not in wrong and (not first or step < first.step)}
    counts = [sum(kind == wanted for _, kind, _ in keys) for wanted in range(5)]
    return Agreement(
        *counts,
        first=first,
        first_beyond_tolerance=beyond[0] if beyond else None,
        largest=max(numbers, key=lambda d: d.relative or 0, default=None),
        last_sound_step=max(sound, default=begin),
    )


def _find_differences(keys: Iterable[Key], then: Mapping[Key, Value], now: Mapping[Key, Value]) -> Iterator[Difference]:
    for key in keys:
        step, kind, name = key
        old, new = then[key], now[key]
        if isinstance(old, str) or isinstance(new, str):
            if old != new:
                yield Difference(step, f"the {name}'s checksum" if kind == 2 else name, old, new, None, _FILES[kind])
        elif repr(old) != repr(new):  # distinguishes −0 from 0, and NaN equals NaN
            yield Difference(step, name, old, new, relative_difference(old, new), _FILES[kind])


def relative_difference(old: float, new: float) -> float:
    if not (math.isfinite(old) and math.isfinite(new)):
        return 2.0
    return abs(old - new) / (max(abs(old), abs(new)) or 1)


def diff_fingerprints(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs: key -> (then, now); None where it was not recorded. Each of the user's packages is a key."""
    then, now = ({**fp, **{f"package {k}": v for k, v in fp.get("packages", {}).items()}} for fp in (then, now))
    keys = list(dict.fromkeys([*then, *now]))
    return {key: (then.get(key), now.get(key)) for key in keys if key != "packages" and then.get(key) != now.get(key)}
