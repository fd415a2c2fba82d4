"""A gate for CI: conditions on the comparisons of a report; where one holds, the command exits with 1.

"Worse" is in the metric's direction, and m the margin of the gate. Read the conditions by where the 95 % interval of
the difference lies; the first two require proof of opposite claims, and between them is what is still uncertain.

* worse: shown to be worse by more than m (the interval ends below -m). Lets an uncertain loss pass.
* maybe-worse: not shown to be no worse than m (the interval begins at or below -m); the opposite is called
  non-inferiority. Stops an uncertain loss, and needs enough seeds.
* not-better: not shown to be better by more than m.
* not-equivalent: not shown to differ by less than m, up or down (TOST at 0.05, so by the 90 % interval).
* undecided: the report's own verdict is undecided.
* incomplete: a planned run is missing or has failed.

worse, not-better, not-equivalent and undecided are Holm-adjusted over all comparisons, as the report's verdicts are: at
m = 0, `worse` is the report's *worse*. maybe-worse is not, since it passes only if every comparison does, and so no
error rate grows with their number. A comparison that cannot be tested (fewer than two seeds) fails every condition: a
gate must not pass what it could not check.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from paribus.core.build import did_you_mean
from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.build import choose_report_unit
from paribus.study.report.wording import Unit, format_p_equals
from paribus.study.stats import Comparison, Rule, Verdict, compare, compare_all
from paribus.study.stats.estimate import Values

_NEEDS_MARGIN = {"maybe-worse", "not-equivalent"}  # where the margin is the smallest effect of interest unless given
_EQUIVALENT_VERDICTS = {Verdict.EQUIVALENT, Verdict.BETTER_WITHIN, Verdict.WORSE_WITHIN}


@dataclass(frozen=True)
class GateCheck:
    """One condition on one comparison. what: the condition in words; failed: whether it holds. why: what was found."""

    condition: str
    subject: str
    what: str
    failed: bool
    why: str


def run_checks(a: Analysis, conditions: Sequence[str], margin: float | None) -> tuple[GateCheck, ...]:
    """margin: in the metric's unit; None: the smallest effect of interest for maybe-worse and not-equivalent, else 0.

    Raises ConfigError for an unknown condition, or one that needs a margin and has none.
    """
    found: list[GateCheck] = []
    for condition in dict.fromkeys(conditions):
        if condition not in CONDITIONS:
            known = list(CONDITIONS)
            raise ConfigError(
                f"--fail-if: found {condition}{did_you_mean(condition, known)}; there are {', '.join(known)}"
            )
        m = margin if margin is not None else a.spec.margin if condition in _NEEDS_MARGIN else 0.0
        if condition in _NEEDS_MARGIN and m == 0:
            raise ConfigError(f"--fail-if {condition}: needs a margin above 0; give --margin, e.g. --margin 0.5pt")
        found += CONDITIONS[condition](a, condition, m)
    return tuple(found)


def _check_worse(a: Analysis, condition: str, m: float) -> list[GateCheck]:
    moved = _compare_shifted(a, m)
    what = f"worse{_format_margin(a, m)}"
    return [
        _build_check(a, condition, c, what, s.judgement.verdict in (Verdict.WORSE, Verdict.WORSE_WITHIN))
        for c, s in moved
    ]


def _check_maybe_worse(a: Analysis, condition: str, m: float) -> list[GateCheck]:
    rule = Rule(higher_is_better=a.spec.higher_is_better)
    what = f"maybe worse{_format_margin(a, m)}"
    found = []
    for c in (x.comparison for x in a.comparisons):
        alone = compare(_shift_values(a, c.arm, m), a.values(c.baseline), rule)
        found.append(_build_check(a, condition, c, what, alone.judgement.verdict is not Verdict.BETTER))
    return found


def _check_not_better(a: Analysis, condition: str, m: float) -> list[GateCheck]:
    moved = _compare_shifted(a, -m)
    what = f"not shown to be better{_format_margin(a, m)}"
    return [_build_check(a, condition, c, what, s.judgement.verdict is not Verdict.BETTER) for c, s in moved]


def _check_not_equivalent(a: Analysis, condition: str, m: float) -> list[GateCheck]:
    what = f"not shown to be equivalent within {choose_report_unit(a).size(m)}"
    judged = _compare_shifted(a, 0.0, m)
    return [_build_check(a, condition, c, what, s.judgement.verdict not in _EQUIVALENT_VERDICTS) for c, s in judged]


def _check_undecided(a: Analysis, condition: str, m: float) -> list[GateCheck]:
    comparisons = [x.comparison for x in a.comparisons]
    return [_build_check(a, condition, c, "undecided", c.judgement.verdict is Verdict.UNDECIDED) for c in comparisons]


def _check_incomplete(a: Analysis, condition: str, m: float) -> list[GateCheck]:
    gone = [*(f"{cell} is missing" for cell in a.missing), *(f"{cell} failed" for cell in a.failed)]
    return [
        GateCheck(condition, "all runs", "incomplete", bool(gone), format_list(gone) if gone else f"{len(a.rows)} done")
    ]


CONDITIONS: Mapping[str, Callable[[Analysis, str, float], list[GateCheck]]] = {
    "worse": _check_worse,
    "maybe-worse": _check_maybe_worse,
    "not-better": _check_not_better,
    "not-equivalent": _check_not_equivalent,
    "undecided": _check_undecided,
    "incomplete": _check_incomplete,
}


def _shift_values(a: Analysis, arm: str, bonus: float) -> Values:
    """An arm's values with a bonus added: then "better" means that it is better than the baseline minus the bonus."""
    sign = 1 if a.spec.higher_is_better else -1
    return {seed: value + sign * bonus for seed, value in a.values(arm).items()}


def _compare_shifted(a: Analysis, bonus: float, margin: float = 0.0) -> list[tuple[Comparison, Comparison]]:
    """Each comparison, and the same with the bonus; those together are the family that is adjusted."""
    comparisons = [x.comparison for x in a.comparisons]
    arms: dict[str, Values] = {}
    for i, c in enumerate(comparisons):
        arms |= {f"arm {i}": _shift_values(a, c.arm, bonus), f"baseline {i}": a.values(c.baseline)}
    pairs = [(f"arm {i}", f"baseline {i}") for i in range(len(comparisons))]
    rule = Rule(margin=margin, higher_is_better=a.spec.higher_is_better)
    return list(zip(comparisons, compare_all(arms, pairs, rule), strict=True))


def _build_check(a: Analysis, condition: str, c: Comparison, what: str, failed: bool) -> GateCheck:
    subject, unit = f"{c.arm} against {c.baseline}", choose_report_unit(a)
    if c.judgement.verdict is Verdict.UNTESTABLE:
        return GateCheck(
            condition, subject, what, True, f"cannot be tested: {c.estimate.n} usable seeds, two are needed"
        )
    return GateCheck(condition, subject, what, failed, _format_finding(c, unit))


def _format_finding(c: Comparison, unit: Unit) -> str:
    e = c.estimate
    interval = unit.interval(e.low, e.high)
    between = f", 95 % interval {interval}" if interval else ""
    name = f" {unit.differences}" if unit.differences else ""
    return (
        f"{unit.difference(e.mean)}{name}{between}, n = {e.n}, p {format_p_equals(c.judgement.p_zero)}, {c.judgement}"
    )


def _format_margin(a: Analysis, m: float) -> str:
    return f" by more than {choose_report_unit(a).size(m)}" if m else ""


def format_junit(name: str, found: Sequence[GateCheck]) -> str:
    """JUnit XML, which CI services show as tests; without times, so that the same rows give the same bytes."""
    failures = sum(check.failed for check in found)
    totals = {"tests": str(len(found)), "failures": str(failures), "errors": "0"}
    suites = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **totals, "skipped": "0"})
    for check in found:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": f"{name}.{check.condition}", "name": f"{check.subject}: {check.what}"}
        )
        if check.failed:
            failure = ElementTree.SubElement(case, "failure", {"message": check.why, "type": check.condition})
            failure.text = f"{check.subject}, {check.what}: {check.why}"
        else:
            ElementTree.SubElement(case, "system-out").text = check.why
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
