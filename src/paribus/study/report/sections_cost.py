"""The sections of a report that are about cost: what accuracy took, how soon a target was reached, overhead."""

import math

from paribus.core.formatting import DASH, format_count, format_list, format_number, format_quantity, format_si
from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.costs import Overhead, TimeToTarget
from paribus.study.report.model import Section, Table
from paribus.study.report.sections import VERDICT
from paribus.study.report.wording import Unit, format_p
from paribus.study.stats import ArmSummary


def build_accuracy_and_cost(a: Analysis, unit: Unit) -> Section | None:
    if not any(cost.n for costs in a.costs.values() for cost in costs.values()):
        return None
    rows = tuple(
        (
            name,
            unit.value(a.arms[name].mean),
            _format_spread(costs["train_s"]),
            format_quantity(costs["eval_s"].mean),
            format_si(costs["samples_per_sec"].mean),
            format_quantity(costs["peak_gb"].mean),
            format_si(costs["parameters"].mean),
            format_si(costs["macs"].mean),
        )
        for name, costs in a.costs.items()
    )
    of = f"mean ({unit.values})" if unit.values else "mean"
    head = ("arm", of, "training (s)", "evaluation (s)", "samples / s", "peak memory (GB)", "parameters", "MACs")
    gpu = any(row.hardware.get("gpu") for row in a.rows)
    notes = (
        "Means over runs, with ± one standard deviation. MACs: multiply-accumulates of one forward pass of one image. "
        + ("Memory: the device's peak. " if gpu else "Memory: the whole process's peak, libraries included. ")
        + "Clocks vary with what else the machine does; MACs and parameters do not.",
    )
    return Section("cost", "Accuracy against cost", notes, (Table(head, rows),), ("cost",))


def _format_spread(cost: ArmSummary) -> str:
    if math.isnan(cost.sd):
        return format_quantity(cost.mean)
    places = max(0, 2 - math.floor(math.log10(cost.mean))) if cost.mean > 0 else 0
    return f"{cost.mean:,.{places}f} ± {cost.sd:,.{places}f}"


def build_time_to_target(a: Analysis, unit: Unit) -> Section | None:
    if not a.targets:
        return None
    tables = tuple(
        table
        for i in range(len(a.targets))
        for target in (a.targets[i], *a.target_seconds[i : i + 1])
        for table in _target_tables(a, target, unit)
    )
    notes = (
        "Steps until the metric first reaches the target, known to the spacing of evaluations. A run that never does "
        "is censored: known to take longer than it was watched, and not dropped, which would favour the arm that fails "
        "more often. Median: Kaplan-Meier's, none if fewer than half arrived.",
        "Arms are compared on min(time, horizon), where the horizon is the shortest time for which any run was "
        "watched in vain; shorter is better, p values are Holm-adjusted. Beside it the sign test over seeds: who "
        "arrived sooner.",
        _explain_seconds(a),
    )
    figures = [f"target {t.value}" for t in a.targets] + (["over seconds"] if a.target_seconds else [])
    return Section("targets", "Time to accuracy", notes, tables, tuple(figures))


def _explain_seconds(a: Analysis) -> str:
    if not a.target_seconds:
        return (
            "Not in seconds: the time of a run is not known, or runs are of several machines, whose seconds are not "
            "the same."
        )
    return (
        "Seconds are those of training, without evaluation: a run's steps to the target times its own mean seconds a "
        "step. They hold for this machine and what else it did at the time; steps do not depend on it."
    )


def _target_tables(a: Analysis, target: TimeToTarget, unit: Unit) -> tuple[Table, Table]:
    target_text, kind = f"{a.spec.metric} of {format_target(target, unit)}", target.unit
    places = 0 if kind == "steps" else 1
    arms = tuple(
        (
            name,
            f"{arm.reached} of {arm.n}" + (f", {len(arm.missing)} failed" if arm.missing else ""),
            format_number(arm.median, places),
            format_number(arm.restricted_mean, places),
        )
        for name, arm in target.arms.items()
    )
    comparisons = tuple(
        (
            a.spec.label_comparison(t.comparison.arm, t.comparison.baseline),
            {"better": "sooner", "worse": "later"}.get(str(t.comparison.judgement), str(t.comparison.judgement)),
            format_number(t.comparison.estimate.mean, places, sign=True),
            _format_interval(t.comparison.estimate.low, t.comparison.estimate.high, places),
            format_p(t.comparison.judgement.p_zero),
            f"{t.sooner} / {t.later} / {t.tied}",
            format_p(t.sign_p),
        )
        for t in target.comparisons
    )
    limited = math.isfinite(target.horizon)
    limit = f"horizon {format_number(target.horizon, places)} {kind}" if limited else "every finished run arrived"
    head = (
        a.spec.comparison_header,
        VERDICT,
        kind,
        "95 % interval",
        "p",
        "sooner / later / tied",
        "sign-test p",
    )
    return (
        Table(
            ("arm", "arrived", f"median ({kind})", f"restricted mean ({kind})"),
            arms,
            caption=f"Until {target_text}, in {kind}; {limit}",
        ),
        Table(head, comparisons, frozenset({0, 1})),
    )


def format_target(target: TimeToTarget, unit: Unit) -> str:
    return f"{target.value * unit.scale:.6g} {unit.values}".rstrip()


def _format_interval(low: float, high: float, places: int) -> str:
    ends = (format_number(end, places, sign=True) for end in (low, high))
    return DASH if math.isnan(low) else " to ".join(ends)


def build_overheads(a: Analysis, unit: Unit) -> Section | None:
    rows = tuple(
        (
            a.spec.label_comparison(o.arm, o.baseline),
            str(o.n) if o.paired else f"{o.n}, unpaired",
            f"{format_number(o.ratio, 2)} ×",
            DASH if math.isnan(o.low) else f"{format_number(o.low, 2)} × to {format_number(o.high, 2)} ×",
        )
        for o in a.overheads
        if o.n
    )
    if not rows:
        return None
    resumed = sum(row.segments > 1 for row in a.rows)
    notes = (
        "Seconds of training over those of the baseline, paired by seed: geometric mean of the ratio and its 95 % t "
        "interval (on logarithms). 1.05 × means 5 % longer. It holds for this machine and this load: cells that run "
        "side by side take time from each other."
        + (f" {format_count(resumed, 'run')} went on after an interruption." if resumed else ""),
        *_describe_pairs_apart(a),
    )
    head = (a.spec.comparison_header, "seeds", "training time", "95 % interval")
    return Section("overhead", "Overhead", notes, (Table(head, rows),))


def _describe_pairs_apart(a: Analysis) -> tuple[str, ...]:
    """Which ratios leave pairs out or hold pairs that ran apart. Nothing for a study all of which was run arm after arm
    on one machine, as `study run` did at first: reports of these stand as they were published."""
    machines = {str(sorted(row.hardware.items(), key=str)) for row in a.rows}
    paired = [o for o in a.overheads if o.paired]
    if len(machines) < 2 and not any(o.neighbours for o in paired):
        return ()
    chosen = [o for o in paired if o.n < o.pairs]
    apart = [o for o in paired if o.n == o.pairs and o.neighbours < o.pairs]
    if not chosen and not apart:
        return ()

    def name(o: Overhead, seeds: int) -> str:
        return f"{seeds} of {format_count(o.pairs, 'seed')} of {a.spec.label_comparison(o.arm, o.baseline)}"

    left_out = [name(o, o.pairs - o.n) for o in chosen]
    kept = [name(o, o.pairs - o.neighbours) for o in apart]
    return (
        "Runs are beside each other if they are on the same hardware, without an interruption, and no further apart in "
        "time than the longer of the two took."
        + (f" Left out, as they were not: {format_list(left_out)}." if left_out else "")
        + (f" Kept although they were not, for want of two pairs that were: {format_list(kept)}." if kept else ""),
    )
