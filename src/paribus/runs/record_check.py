"""Whether a run's record agrees with itself and with a replay: events.jsonl, summary.json, and its row in a study.

Numbers that a replay computes again are compared as the receipt's are, within the tolerance (engine/agreement.py); here
is what has to be equal whatever the machine: which lines there are, which keys they have, what is derived from what.
Clocks, throughput and memory are those of the machine and time of the run, so nothing can be said of them but that the
files agree. Pure functions of what was read; no torch.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

from paribus.core.formatting import format_list
from paribus.core.runfolder import EVENTS, SUMMARY
from paribus.engine.agreement import EVENT, FINAL, Key, Value, relative_difference
from paribus.engine.receipt import ReceiptLine, iterate_steps
from paribus.study.rows import Row
from paribus.study.spec import RESULTS

CLOCKS = ("time/", "throughput/", "memory/")
LOGGED = "throughput/samples_per_sec"  # only lines of log points have it
ROUNDING = 1e-9  # relative; the mean of a window is taken over steps and ranks in another order than here
Event = Mapping[str, Any]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Discrepancy:
    """A value that should be another. key: "" for a whole line. step: None where it is of no step."""

    file: str
    step: int | None
    key: str
    recorded: Any
    expected: Any


@dataclass(frozen=True)
class RecordCheck:
    """not_compared: what nothing can be said of, in words."""

    discrepancies: tuple[Discrepancy, ...]
    not_compared: tuple[str, ...]


def is_clock(key: str) -> bool:
    return key.startswith(CLOCKS)


def collect_numbers(lines: Iterable[Event], kind: int = EVENT) -> dict[Key, Value]:
    """The values of events that a replay computes again."""
    return {
        (line["step"], kind, key): float(value)
        for line in lines
        for key, value in line["values"].items()
        if not is_clock(key) and _is_number(value)
    }


def final_numbers(summary: Values) -> dict[Key, Value]:
    """The same of a summary's metrics, which are as of the last step."""
    step, metrics = summary.get("step"), summary.get("metrics")
    if not isinstance(step, int) or not isinstance(metrics, dict):
        return {}
    return collect_numbers([{"step": step, "values": metrics}], FINAL)


def skipped_ranges(
    segments: Sequence[Mapping[str, Any]],
    events: Sequence[Event],
    replayed: Sequence[int],
    every: Mapping[str, int],
    span: tuple[int, int],
) -> list[tuple[int, int]]:
    """Ranges (after, up to) of steps whose lines were recorded at other intervals than `every`, those of config.yaml,
    so that the replay has other lines. replayed: steps of its lines.

    Segments recorded before their intervals were (`every` in provenance.json) count as other if their lines stand at
    other steps, unless they are the last, which wrote config.yaml.
    """
    found: list[tuple[int, int]] = []
    starts = [segment.get("start_step", 0) for segment in segments]
    for i, segment in enumerate(segments):
        begin, end = max(starts[i], span[0]), min([*starts[i + 1 :], span[1]])
        if begin >= end:
            continue
        recorded = segment.get("every")
        if isinstance(recorded, dict):
            same = all(recorded.get(key) == every[key] for key in ("log", "evaluate"))
        else:
            now = [step for step in replayed if begin < step <= end]
            same = i == len(segments) - 1 or now == [e["step"] for e in events if begin < e["step"] <= end]
        if not same:
            # the replay's first window after these steps may begin elsewhere than the recorded one did
            logged = [e["step"] for e in events if e["step"] > end and LOGGED in e["values"]]
            found.append((begin, min(logged, default=span[1])))
    return found


def compare_lines(
    events: Sequence[Event], replayed: Sequence[Event], span: tuple[int, int], ended: bool
) -> list[Discrepancy]:
    """Lines and keys that only one side has, and values that are no numbers. ended: the run did, so that its last lines
    have to be there."""
    last = span[1] if ended else min(span[1], max((e["step"] for e in events), default=0))
    then, now = ({e["step"]: e["values"] for e in lines if span[0] < e["step"] <= last} for lines in (events, replayed))
    found = [Discrepancy(EVENTS, step, "", "no line", "a line") for step in now if step not in then]
    found += [Discrepancy(EVENTS, step, "", "a line", "no line") for step in then if step not in now]
    for step in then.keys() & now.keys():
        found += _compare_keys(EVENTS, step, then[step], now[step])
    return sorted(found, key=lambda d: (d.step or 0, d.key))


def _compare_keys(file: str, step: int | None, then: Values, now: Values) -> Iterator[Discrepancy]:
    for key in [*then, *(key for key in now if key not in then)]:
        if key not in then:
            yield Discrepancy(file, step, key, "nothing", now[key])
        elif key not in now:
            yield Discrepancy(file, step, key, then[key], "nothing")
        elif not _is_number(then[key]):
            yield Discrepancy(file, step, key, then[key], now[key])


def compare_events_with_themselves(events: Sequence[Event]) -> list[Discrepancy]:
    """Each step has one line, and they are in order."""
    return [
        Discrepancy(EVENTS, after["step"], "step", after["step"], f"more than {before['step']}")
        for before, after in itertools.pairwise(events)
        if after["step"] <= before["step"]
    ]


def compare_events_with_receipt(events: Sequence[Event], lines: Iterable[ReceiptLine]) -> list[Discrepancy]:
    """The losses of a log line are the means of those of its steps, which receipts.jsonl has one by one."""
    losses = {step: values for line in lines for step, values in iterate_steps(line)}
    found: list[Discrepancy] = []
    begin = 0
    for event in events:
        if LOGGED not in event["values"]:
            continue
        steps = range(begin + 1, event["step"] + 1)
        begin = event["step"]
        if not steps or not all(step in losses for step in steps):
            continue
        for key in sorted({name for step in steps for name in losses[step]}):
            mean = sum(losses[step].get(key, 0.0) for step in steps) / len(steps)
            value = event["values"].get(key)
            if not _is_number(value) or relative_difference(value, mean) > ROUNDING:
                found.append(Discrepancy(EVENTS, event["step"], key, "nothing" if value is None else value, mean))
    return found


def has_wrong_events(
    found: Iterable[Discrepancy], then: Mapping[Key, Value], now: Mapping[Key, Value], tolerance: float
) -> bool:
    """Whether events.jsonl is itself not what it should be, and so no measure for others. then, now: recorded and
    replayed."""
    return any(d.file == EVENTS for d in found) or any(
        relative_difference(float(then[key]), float(now[key])) > tolerance
        for key in then.keys() & now.keys()
        if key[1] == EVENT
    )


def compare_summary_with_events(summary: Values, events: Sequence[Event]) -> list[Discrepancy]:
    """A summary's metrics are the newest values in events.jsonl, to the last digit and clocks too."""
    newest: dict[str, Any] = {}
    for event in events:
        newest |= event["values"]
    last = events[-1]["step"] if events else 0
    found = [] if summary.get("step") == last else [Discrepancy(SUMMARY, None, "step", summary.get("step"), last)]
    metrics = summary.get("metrics")
    if not isinstance(metrics, dict):
        return [*found, Discrepancy(SUMMARY, None, "metrics", metrics, f"the newest values in {EVENTS}")]
    return [*found, *_compare_exactly(SUMMARY, last, "metrics", metrics, newest)]


def compare_summary_with_recipe(
    summary: Values, expected: Values, optional: Iterable[str] = ()
) -> tuple[list[Discrepancy], list[str]]:
    """What a summary says of the run itself, and the keys of it that cannot be compared. expected: what it should say.
    optional: keys whose value may be null, as it could not be counted in time."""
    found: list[Discrepancy] = []
    unknown: list[str] = []
    unknown += [f"{key} of {SUMMARY}" for key in summary if key not in {*expected, "state", "step", "metrics"}]
    for key, now in _flatten(expected).items():
        then = _flatten(summary).get(key, _ABSENT)
        if then is _ABSENT or (key in optional and (then is None or now is None)):
            unknown.append(f"{key} of {SUMMARY} (not recorded)")
        elif not _is_same(then, now):
            found.append(Discrepancy(SUMMARY, None, key, then, now))
    return found, unknown


def compare_row(row: Row, made: Row, tolerance: float) -> tuple[list[Discrepancy], list[str]]:
    """A row of results.jsonl and the row that the run folder makes, `made`. That of this very run is equal throughout.
    That of another run of the same recipe has equal results, within the tolerance, and other costs."""
    file = f"{RESULTS} ({row.cell})"
    if row.started is not None and row.started == made.started:
        then, now = ({**asdict(one), "curves": _by_step(one.curves)} for one in (row, made))
        keys = [key for key in then if key not in ("study", "arm")]
        return [d for key in keys for d in _compare_exactly(file, None, key, then[key], now[key])], []
    found, unknown = list[Discrepancy](), [f"costs in {RESULTS} (its row is of another run of this recipe)"]
    for key in ("seed", "steps", "sizes", "data_checksum", "state"):
        found += _compare_exactly(file, None, key, getattr(row, key), getattr(made, key))
    results = ((row.metrics, made.metrics, row.steps, "metrics"), *_match_curves(row, made))
    for then, now, step, name in results:
        unknown += [f"{name}.{key} of {RESULTS} (not recorded)" for key in sorted(now.keys() - then.keys())]
        for key in sorted(then):
            a, b = then.get(key, "nothing"), now.get(key, "nothing")
            if not (_is_number(a) and _is_number(b) and relative_difference(a, b) <= tolerance):
                found.append(Discrepancy(file, step, f"{name}.{key}", a, b))
    return found, unknown


def _by_step(curves: Mapping[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    return {key: {f"step {step:.0f}": value for step, value in curve} for key, curve in curves.items()}


def _match_curves(row: Row, made: Row) -> Iterator[tuple[Values, Values, int, str]]:
    """Evaluations at steps that both have; the intervals of two runs may differ."""
    for key in sorted(row.curves.keys() & made.curves.keys()):
        then, now = ({int(step): {key: value} for step, value in one.curves[key]} for one in (row, made))
        if not key.startswith("train/"):
            yield from ((then[step], now[step], step, "curves") for step in sorted(then.keys() & now.keys()))


def describe_not_compared(
    events: Sequence[Event], span: tuple[int, int], skipped: Sequence[tuple[int, int]]
) -> list[str]:
    """What the replay says nothing of, in words."""
    clocks = sorted({key for event in events for key in event["values"] if is_clock(key)})
    found = [format_list(clocks, 9)] if clocks else []
    outside = [event["step"] for event in events if not span[0] < event["step"] <= span[1]]
    if outside:
        found.append(f"lines of {EVENTS} outside the steps replayed, but for their losses ({len(outside)} lines)")
    for begin, end in skipped:
        found.append(f"lines of {EVENTS} after step {begin} up to {end}, logged at other intervals than config.yaml's")
    return found


def _compare_exactly(file: str, step: int | None, key: str, then: Any, now: Any) -> list[Discrepancy]:
    """Every leaf, by its dotted key. An empty mapping has none, so that one that is not is told by its entries."""
    a, b = ({k: v for k, v in _flatten({key: node}).items() if v != {}} for node in (then, now))
    return [
        Discrepancy(file, step, name, a.get(name, "nothing"), b.get(name, "nothing"))
        for name in [*a, *(name for name in b if name not in a)]
        if name not in a or name not in b or not _is_equal(a[name], b[name])
    ]


_ABSENT = object()


def _flatten(node: Any, path: str = "") -> dict[str, Any]:
    if isinstance(node, Mapping) and node:
        return {
            k: v for key, value in node.items() for k, v in _flatten(value, f"{path}.{key}" if path else key).items()
        }
    return {path: list(node) if isinstance(node, tuple) else node}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_equal(a: Any, b: Any) -> bool:
    """As JSON says it: 1 is not 1.0, NaN equals NaN."""
    return repr(a) == repr(b)


def _is_same(a: Any, b: Any) -> bool:
    """Equal, floats up to what another machine makes of a mean and deviation."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_is_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return relative_difference(a, b) <= 1e-6
    return _is_equal(a, b)
