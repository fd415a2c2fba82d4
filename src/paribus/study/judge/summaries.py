"""Rows that sum up runs: one for each arm, with the number of runs, their mean and their standard deviation."""

import math
from dataclasses import replace

from paribus.core.errors import ConfigError
from paribus.study.judge.columns import Roles
from paribus.study.judge.judged import RUNS, Judged, JudgeOptions, build_comparisons, choose_baseline
from paribus.study.judge.metric import choose_metric
from paribus.study.judge.table import SourceTable, read_value
from paribus.study.stats.estimate import NAN, Estimate, SampleSummary, welch_of_samples
from paribus.study.stats.paired import ArmSummary
from paribus.study.stats.verdict import Rule

_SUMMARY = ("n", "mean", "sd")
SUMMARIES = (
    "Rows are summaries: arms are compared unpaired, by Welch's t test from n, mean and sd, which takes sd for the "
    "standard deviation over runs (divisor n − 1). Where a table has standard errors, multiply them by √n first."
)


def are_summaries(table: SourceTable, roles: Roles) -> bool:
    """Raises ConfigError where rows of both kinds are mixed."""
    asked = [role for role in _SUMMARY if roles.given.get(role)]
    if roles.given.get("value") and asked:
        raise ConfigError(f"--value and --{asked[0]}: rows are runs with a value, or summaries with n, mean and sd")
    if roles.given.get("value"):
        return False
    if not asked and (roles.find("mean") is None or roles.find("sd") is None):
        for role in _SUMMARY:
            roles.drop(role)
        return False
    columns = [roles.need(role) for role in ("mean", "sd", "n")]
    value = None if asked else roles.find("value")
    if value is None:
        return True
    places = [table.columns.index(column) for column in columns]
    summaries = [i for i, row in enumerate(table.rows) if any(row[j] for j in places)]
    runs = [i for i, cell in enumerate(table.cells(value)) if cell]
    if both := sorted({*summaries} & {*runs}):
        raise ConfigError(
            f"{table.where(both[0])} has a value ({value}) and a summary ({', '.join(columns)}); give --value or --mean"
        )
    if summaries and runs:
        raise ConfigError(
            f"{table.where(runs[0])} is a run and {table.where(summaries[0])} a summary of runs; judge them apart, or "
            "summarise the runs"
        )
    roles.drop("value")
    if not summaries:
        raise ConfigError(f"{table.where(0)} has neither a value nor a summary")
    return True


def judge_summaries(table: SourceTable, roles: Roles, options: JudgeOptions) -> Judged:
    samples = _read_samples(table, roles)
    baseline, how = choose_baseline(list(samples), options.against)
    ordered = [baseline, *(arm for arm in samples if arm != baseline)]
    means = [sample.mean for sample in samples.values()]
    column = roles.found["mean"]
    metric = choose_metric(options.metric or column, means, options.higher, table.has_percent(column))
    rule = Rule(margin=metric.read_margin(options.margin) or 0.0, higher_is_better=metric.higher_is_better)
    pairs = [(arm, baseline) for arm in ordered[1:]]

    def estimate(bonus: float, margin: float) -> list[Estimate]:
        return [
            welch_of_samples(replace(samples[arm], mean=samples[arm].mean + bonus), samples[other], margin=margin)
            for arm, other in pairs
        ]

    return Judged(
        kind="summaries",
        name=table.name,
        metric=metric,
        rule=rule,
        baseline=baseline,
        arms={arm: _summarise(samples[arm]) for arm in ordered},
        comparisons=build_comparisons(pairs, estimate(0.0, rule.margin), rule, paired=False),
        estimate=estimate,
        test="Welch's t from n, mean and sd",
        columns=f"{roles.describe()}; against {baseline}, {how}",
        counted=RUNS,
        cautions=(*filter(None, [metric.caution]), SUMMARIES),
    )


def _summarise(sample: SampleSummary) -> ArmSummary:
    return ArmSummary(sample.n, sample.mean, sample.sd, sample.sd / math.sqrt(sample.n), ())


def _read_samples(table: SourceTable, roles: Roles) -> dict[str, SampleSummary]:
    arm = roles.found["arm"]
    columns = {role: roles.found[role] for role in _SUMMARY}
    cells = {role: table.cells(column) for role, column in columns.items()}
    samples: dict[str, SampleSummary] = {}
    first: dict[str, int] = {}
    for i, name in enumerate(table.cells(arm)):
        if not name:
            raise ConfigError(f"{table.where(i)} has no arm ({arm} is empty)")
        if name in first:
            raise ConfigError(
                f"{table.where(i)} is a summary of {name}, as is line {table.lines[first[name]]}; there should be one"
            )
        first[name] = i
        n = table.number(cells["n"][i])
        if n is None or not n.is_integer() or n < 1:
            raise ConfigError(f"{table.where(i)}: {columns['n']} is {cells['n'][i]!r}, not a number of runs")
        mean = read_value(table, columns["mean"], i, cells["mean"][i], failed=False)
        sd = NAN if n == 1 else read_value(table, columns["sd"], i, cells["sd"][i], failed=False)
        if sd < 0:
            raise ConfigError(f"{table.where(i)}: {columns['sd']} is {cells['sd'][i]}; a spread is 0 or more")
        samples[name] = SampleSummary(int(n), mean, sd)
    return samples
