"""The gate of a study's report: conditions.py checked on an analysis."""

from collections.abc import Sequence
from dataclasses import replace

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.build import choose_report_unit
from paribus.study.report.conditions import AGAINST_ZERO, CONDITIONS, GateCheck, Gated, check_conditions, format_junit
from paribus.study.stats import Estimate, Rule, compare_all
from paribus.study.stats.estimate import Values

__all__ = ["CONDITIONS", "GateCheck", "format_junit", "run_checks"]


def run_checks(a: Analysis, conditions: Sequence[str], margin: float | None) -> tuple[GateCheck, ...]:
    """See `check_conditions`. A study with planned looks is checked by its own verdicts and repeated intervals, which
    ask whether a difference is not 0: a margin for them is refused."""
    gated = _gate(a)
    if a.interims is not None:
        if margin and (against_zero := [name for name in conditions if name in AGAINST_ZERO]):
            raise ConfigError(
                f"--margin: found {gated.unit.size(margin)}; for {format_list(against_zero)} its looks ask "
                "whether the difference is 0, so leave it out; the other conditions take the study's own without it"
            )
        if margin not in (None, a.spec.margin):
            raise ConfigError(
                f"--margin: found {gated.unit.size(margin or 0.0)}; the looks of this study were planned for its own, "
                f"{gated.unit.size(a.spec.margin)}, so leave it out"
            )
        gated = replace(gated, decided=True)
    return check_conditions(gated, conditions, margin)


def _gate(a: Analysis) -> Gated:
    return Gated(
        comparisons=tuple(x.comparison for x in a.comparisons),
        estimate=lambda bonus, margin: _estimate_shifted(a, bonus, margin),
        higher_is_better=a.spec.higher_is_better,
        margin=a.spec.margin,
        unit=choose_report_unit(a),
        gone=(*(f"{cell} is missing" for cell in a.missing), *(f"{cell} failed" for cell in a.failed)),
        done=len(a.rows),
    )


def _estimate_shifted(a: Analysis, bonus: float, margin: float) -> list[Estimate]:
    arms: dict[str, Values] = {}
    for i, c in enumerate(x.comparison for x in a.comparisons):
        shifted = {seed: value + bonus for seed, value in a.values(c.arm).items()}
        arms |= {f"arm {i}": shifted, f"baseline {i}": a.values(c.baseline)}
    pairs = [(f"arm {i}", f"baseline {i}") for i in range(len(a.comparisons))]
    return [c.estimate for c in compare_all(arms, pairs, Rule(margin=margin))]
