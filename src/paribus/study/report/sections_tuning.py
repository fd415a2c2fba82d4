"""The sections of a report about tuning: what was chosen for each arm, at which cost, and every setting tried."""

import math

from paribus.core.formatting import DASH, format_count, format_list, format_quantity
from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.tuning import EdgeWarning, TunedArm, TuningAnalysis
from paribus.study.report.model import Section, Table
from paribus.study.report.sections import with_unit
from paribus.study.report.wording import Unit, choose_unit
from paribus.study.tuning.space import Interval, as_numbers, format_value
from paribus.study.tuning.trials import DEFAULT

ATTEMPTS = "tuning attempts"  # the key of the figure


def choose_tuning_unit(tuning: TuningAnalysis) -> Unit:
    return choose_unit(tuning.metric, [abs(arm.gap) for arm in tuning.arms.values()])


def axis_figure(key: str) -> str:
    """The key of the figure of an axis."""
    return f"tuning {key}"


def build_tuning(a: Analysis, unit: Unit) -> Section | None:
    """What was chosen, the gap to the default settings, edges, failures, cost, and the best of fewer trials."""
    if a.tuning is None:
        return None
    tuning, unit = a.tuning, choose_tuning_unit(a.tuning)
    figures = (*(axis_figure(key) for key in tuning.axes), ATTEMPTS)
    tables = (_build_choices(tuning, unit), _build_attempts(tuning, unit))
    return Section("tuning", "Tuning", (*_list_notes(tuning), *_list_edges(tuning)), tables, figures)


def _build_choices(tuning: TuningAnalysis, unit: Unit) -> Table:
    rows = tuple(
        (
            name,
            _format_settings(arm),
            arm.chosen.trial,
            unit.value(arm.chosen.value),
            unit.value(arm.default),
            unit.difference(arm.gap) if math.isfinite(arm.gap) else DASH,
            f"{len(arm.failed)} of {(tuning.trials + 1) * len(tuning.seeds)}" if arm.failed else "none",
            _format_minutes(arm),
        )
        for name, arm in tuning.arms.items()
    )
    head = (
        "arm",
        "best setting",
        "trial",
        with_unit(unit.values, "its median"),
        with_unit(unit.values, "default's"),
        with_unit(unit.differences, "tuned − default"),
        "failed runs",
        "core-minutes",
    )
    return Table(head, rows, frozenset({0, 1}))


def _format_settings(arm: TunedArm) -> str:
    return " ".join(arm.chosen.overrides) or "the default settings"


def _format_minutes(arm: TunedArm) -> str:
    known = format_quantity(arm.minutes)
    return f"{known} (without {format_count(arm.unknown, 'run')})" if arm.unknown else known


def _build_attempts(tuning: TuningAnalysis, unit: Unit) -> Table:
    counts = pick_counts(tuning.trials)
    rows = tuple(
        (name, *(unit.value(arm.attempts[n - 1]) if arm.attempts else DASH for n in counts))
        for name, arm in tuning.arms.items()
    )
    of = with_unit(unit.values, f"Expected best median {tuning.metric}")
    return Table(("arm", *(format_count(n, "trial") for n in counts)), rows, caption=f"{of} of so many trials")


def pick_counts(trials: int) -> list[int]:
    """1, 2, 4, 8, ... and all."""
    return sorted({1 << i for i in range(trials.bit_length())} | {trials})


def _list_notes(tuning: TuningAnalysis) -> list[str]:
    seeds = format_list(map(str, tuning.seeds))
    minutes = format_quantity(sum(arm.minutes for arm in tuning.arms.values()))
    notes = [
        f"Each arm had its default settings and {format_count(tuning.trials, 'trial')} from a quasi-random list, each "
        f"with {format_count(len(tuning.seeds), 'seed')} ({seeds}) that the study does not use. The best median "
        f"{tuning.metric} was taken, the earlier of equal ones, before any run was measured on the split that the "
        f"verdicts are about. All of it took {minutes} core-minutes (training and evaluation × {tuning.threads} "
        f"{'thread' if tuning.threads == 1 else 'threads'}).",
        f"Tuned − default is the best of {tuning.trials + 1} minus one of them, on the images that chose it: never the "
        "worse, so optimistic, and no estimate of what tuning gains elsewhere.",
        f"Expected best of n trials: the mean over all ways to draw n of the {tuning.trials}, the default left out. "
        "Where it still rises at the end, more trials would find better. In the figures hollow is the default, ringed "
        "the choice, small the single seeds.",
    ]
    failed = {cell: why for arm in tuning.arms.values() for cell, why in arm.failed.items()}
    if failed:
        told = format_list((f"{cell} ({why})" for cell, why in failed.items()), 8)
        notes.append(f"Failed, and counted as the worst value there is: {told}.")
    return notes


def _list_edges(tuning: TuningAnalysis) -> list[str]:
    return [
        f"At the edge: the best {edge.key} of {name} ({format_value(edge.value)}) is the {edge.end} tried, or nearly; "
        f"{_advise(arm, edge)} may find better."
        for name, arm in tuning.arms.items()
        for edge in arm.edges
    ]


def _advise(arm: TunedArm, edge: EdgeWarning) -> str:
    """Below 0 there is mostly nothing to widen into."""
    axis = arm.space[edge.key]
    low = axis.low if isinstance(axis, Interval) else min(as_numbers(axis))
    return "a finer space near 0" if low == 0 and edge.end == "smallest" else "a wider space"


def build_trials(a: Analysis, unit: Unit) -> Section | None:
    """Every setting that was tried."""
    if a.tuning is None:
        return None
    tuning, unit = a.tuning, choose_tuning_unit(a.tuning)
    keys = list(tuning.axes)
    rows = tuple(
        (
            name,
            trial.name + (" (chosen)" if trial.name == arm.chosen.trial else ""),
            *(format_value(trial.settings[key]) if key in trial.settings else DASH for key in keys),
            unit.value(trial.median) if math.isfinite(trial.median) else "failed",
            *(unit.value(value) if math.isfinite(value) else "failed" for value in trial.values),
        )
        for name, arm in tuning.arms.items()
        for trial in arm.trials
    )
    head = ("arm", "trial", *keys, with_unit(unit.values, "median"), *(f"seed {seed}" for seed in tuning.seeds))
    notes = (f"{tuning.metric} at the last step. {DEFAULT}: the arm's settings without tuning.",)
    tables = (Table(head, rows, frozenset({0, 1})),)
    return Section("trials", "Every setting that was tried", notes, tables, short=False)


def describe_tuned(tuning: TuningAnalysis) -> str:
    """For a report's facts: what was chosen."""
    return "; ".join(f"{name}: {_format_settings(arm)}" for name, arm in tuning.arms.items())
