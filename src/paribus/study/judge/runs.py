"""Runs, one a row: paired by seed where there are seeds, else independent of each other."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.study.judge.columns import FILE, Roles, find_value, is_wandb_export, normalise
from paribus.study.judge.judged import RUNS, Judged, JudgeOptions, choose_baseline
from paribus.study.judge.metric import choose_metric
from paribus.study.judge.summaries import are_summaries, judge_summaries
from paribus.study.judge.table import SourceTable, read_value
from paribus.study.report.wording import SEEDS
from paribus.study.stats.estimate import NAN, Estimate, Values
from paribus.study.stats.paired import Comparison, compare_all, summarise
from paribus.study.stats.verdict import Rule

_FINISHED = {"finished", "done", "success", "completed"}
NO_SEEDS = (
    "Rows have no seeds: runs are taken for independent and compared unpaired, by Welch's t test. A column of seeds "
    "(--seed) would pair runs that share one, which mostly takes fewer of them."
)


class RunRow(NamedTuple):
    """A row. value: NaN where it failed."""

    arm: str
    seed: str
    value: float
    row: int


def judge_runs(table: SourceTable, options: JudgeOptions) -> Judged:
    """Raises ConfigError, in one line, for what cannot be read or compared."""
    roles = Roles(table, {**options.columns, "value": options.values[0] if options.values else None})
    if len(options.values) > 1:
        raise ConfigError("--value: one column of values is judged at a time; several are for --examples")
    if FILE in table.columns and roles.find("arm") is None:
        roles.set("arm", FILE)
    _check_arm(table, roles)
    if are_summaries(table, roles):
        return judge_summaries(table, roles, options)
    roles.find("seed")
    find_value(roles)
    return _judge_rows(table, roles, options)


def _check_arm(table: SourceTable, roles: Roles) -> None:
    arm = roles.need("arm")
    if "arm" in roles.guessed and normalise(arm) == "name" and is_wandb_export(table):
        raise ConfigError(
            f"{table.name}: which column is the arm? In an export of W&B {arm} is a run's own name; give --arm, e.g. a "
            "setting that the runs differ in, after adding its column to the table"
        )


def _judge_rows(table: SourceTable, roles: Roles, options: JudgeOptions) -> Judged:
    runs = _read_runs(table, roles, options)
    arms = list(dict.fromkeys(run.arm for run in runs))
    baseline, how = choose_baseline(arms, options.against)
    ordered = [baseline, *(arm for arm in arms if arm != baseline)]
    seeded = "seed" in roles.found
    labels = _number_seeds(runs) if seeded else {}
    values: dict[str, dict[int, float]] = {arm: {} for arm in ordered}
    for i, run in enumerate(runs):
        values[run.arm][labels[run.seed] if seeded else i] = run.value
    finite = [run.value for run in runs if math.isfinite(run.value)]
    value = roles.found["value"]
    metric = choose_metric(options.metric or value, finite, options.higher, table.has_percent(value))
    rule = Rule(margin=metric.read_margin(options.margin) or 0.0, higher_is_better=metric.higher_is_better)
    pairs = [(arm, baseline) for arm in ordered[1:]]
    comparisons = compare_all(values, pairs, rule)
    return Judged(
        kind="runs",
        name=table.name,
        metric=metric,
        rule=rule,
        baseline=baseline,
        arms={arm: summarise(values[arm]) for arm in ordered},
        comparisons=comparisons,
        estimate=lambda bonus, margin: _estimate_shifted(values, pairs, bonus, margin),
        test=_name_test(comparisons) if seeded else "Welch's t",
        columns=f"{roles.describe()}; against {baseline}, {how}",
        counted=SEEDS if seeded else RUNS,
        missing=_list_missing(values, labels),
        failed=tuple(f"{r.arm}/{r.seed or table.where(r.row)}" for r in runs if math.isnan(r.value)),
        cautions=(*filter(None, [metric.caution]), *_list_cautions(comparisons, seeded)),
    )


def _list_cautions(comparisons: Sequence[Comparison], seeded: bool) -> tuple[str, ...]:
    if not seeded:
        return (NO_SEEDS,)
    unpaired = [c.arm for c in comparisons if not c.paired]
    if not unpaired:
        return ()
    return (
        f"Unpaired: {format_list(unpaired)} share too few seeds with {comparisons[0].baseline}, so Welch's t test "
        "takes over, with all runs of both. It takes them for independent.",
    )


def _name_test(comparisons: Sequence[Comparison]) -> str:
    kinds = {c.paired for c in comparisons}
    return " and ".join(name for paired, name in ((True, "paired t by seed"), (False, "Welch's t")) if paired in kinds)


def _read_runs(table: SourceTable, roles: Roles, options: JudgeOptions) -> list[RunRow]:
    arm, value, seed = roles.found["arm"], roles.found["value"], roles.found.get("seed")
    # 3.0 is seed 3: a column of whole numbers with a gap is written so
    seeds = [re.sub(r"^(\d+)\.0+$", r"\1", text) for text in table.cells(seed)] if seed else [""] * len(table.rows)
    values = _read_values(table, value, _find_failed(table, roles), options.failed)
    runs: list[RunRow] = []
    first: dict[tuple[str, str], int] = {}
    for i, (name, label, number) in enumerate(zip(table.cells(arm), seeds, values, strict=True)):
        if not name or (seed and not label):
            raise ConfigError(f"{table.where(i)} has no {'seed' if name else 'arm'} ({seed if name else arm} is empty)")
        if seed and (before := first.setdefault((name, label), i)) != i:
            raise ConfigError(
                f"{table.where(i)} is arm {name}, seed {label}, as is line {table.lines[before]}; a run counts once, "
                "so remove one, or name the arms apart"
            )
        runs.append(RunRow(name, label, number, i))
    return runs


def _read_values(table: SourceTable, column: str, failed: set[int], lenient: bool) -> list[float]:
    """failed: rows whose run did not finish; lenient: whether what is no finite number has failed as well."""
    values: list[float] = []
    for i, (text, number) in enumerate(zip(table.cells(column), table.numbers(column), strict=True)):
        if i in failed:
            number = NAN
        elif number is None or not math.isfinite(number):
            number = read_value(table, column, i, text, lenient)
        values.append(number)
    return values


def _find_failed(table: SourceTable, roles: Roles) -> set[int]:
    """Rows of an export of W&B whose run did not finish."""
    state = roles.find("state") if is_wandb_export(table) else None
    return {i for i, text in enumerate(table.cells(state)) if text.lower() not in _FINISHED} if state else set()


def _number_seeds(runs: Sequence[RunRow]) -> dict[str, int]:
    """Seeds as whole numbers; where they are names, their place in the alphabet."""
    names = {run.seed for run in runs}
    if all(name.isdecimal() and len(name) < 19 and str(int(name)) == name for name in names):
        return {name: int(name) for name in names}
    return {name: i for i, name in enumerate(sorted(names))}


def _list_missing(values: Mapping[str, Values], labels: Mapping[str, int]) -> tuple[str, ...]:
    """Seeds that another arm has."""
    names = {number: name for name, number in labels.items()}
    everything = sorted(names)
    return tuple(f"{arm}/{names[s]} is missing" for arm, of in values.items() for s in everything if s not in of)


def _estimate_shifted(
    values: Mapping[str, Values], pairs: Sequence[tuple[str, str]], bonus: float, margin: float
) -> list[Estimate]:
    shifted: dict[str, Values] = {arm: {s: v + bonus for s, v in of.items()} for arm, of in values.items()}
    arms = {
        **{f"arm {arm}": of for arm, of in shifted.items()},
        **{f"baseline {arm}": of for arm, of in values.items()},
    }
    found = compare_all(arms, [(f"arm {arm}", f"baseline {other}") for arm, other in pairs], Rule(margin=margin))
    return [c.estimate for c in found]
