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

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.core.spelling import did_you_mean
from paribus.study.report.wording import SEEDS, Counted, Unit, format_p_equals
from paribus.study.stats.estimate import Estimate
from paribus.study.stats.paired import Comparison
from paribus.study.stats.verdict import Judgement, Rule, Verdict, judge

_NEEDS_MARGIN = {"maybe-worse", "not-equivalent"}  # where the margin is the smallest effect of interest unless given
AGAINST_ZERO = ("worse", "not-better")  # conditions by claims that planned looks make about 0 alone
_EQUIVALENT_VERDICTS = {Verdict.EQUIVALENT, Verdict.BETTER_WITHIN, Verdict.WORSE_WITHIN}


@dataclass(frozen=True)
class GateCheck:
    """One condition on one comparison. what: the condition in words; failed: whether it holds. why: what was found."""

    condition: str
    subject: str
    what: str
    failed: bool
    why: str


@dataclass(frozen=True)
class Gated:
    """What conditions are checked on.

    comparisons: the whole family. estimate: (bonus, margin) -> the estimate of each comparison with a bonus added to
    every value of its arm, in the metric's unit; then "better" means that it is better than the baseline minus the
    bonus. gone: runs that are missing or failed, in words. done: how many are there. counted: what n is of. decided:
    the comparisons' verdicts and intervals hold over planned looks, and are taken as they are.
    """

    comparisons: tuple[Comparison, ...]
    estimate: Callable[[float, float], Sequence[Estimate]]
    higher_is_better: bool
    margin: float
    unit: Unit
    gone: tuple[str, ...] = ()
    done: int = 0
    counted: Counted = SEEDS
    decided: bool = False

    def shift(self, bonus: float, margin: float = 0.0) -> Sequence[Estimate]:
        """A bonus makes an arm better, whatever the direction of the metric."""
        return self.estimate(bonus if self.higher_is_better else -bonus, margin)


def check_conditions(gated: Gated, conditions: Sequence[str], margin: float | None) -> tuple[GateCheck, ...]:
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
        m = margin if margin is not None else gated.margin if condition in _NEEDS_MARGIN else 0.0
        if condition in _NEEDS_MARGIN and m == 0:
            raise ConfigError(f"--fail-if {condition}: needs a margin above 0; give --margin, e.g. --margin 0.5pt")
        found += (_check_decided if gated.decided else CONDITIONS[condition])(gated, condition, m)
    return tuple(found)


def _check_worse(g: Gated, condition: str, m: float) -> list[GateCheck]:
    what = f"worse{_format_margin(g, m)}"
    return [
        _build_check(g, condition, c, what, j.verdict in (Verdict.WORSE, Verdict.WORSE_WITHIN))
        for c, j in _judge_shifted(g, m)
    ]


def _check_maybe_worse(g: Gated, condition: str, m: float) -> list[GateCheck]:
    rule = Rule(higher_is_better=g.higher_is_better)
    what = f"maybe worse{_format_margin(g, m)}"
    alone = [judge([estimate], rule)[0] for estimate in g.shift(m)]
    return [
        _build_check(g, condition, c, what, j.verdict is not Verdict.BETTER)
        for c, j in zip(g.comparisons, alone, strict=True)
    ]


def _check_not_better(g: Gated, condition: str, m: float) -> list[GateCheck]:
    what = f"not shown to be better{_format_margin(g, m)}"
    return [_build_check(g, condition, c, what, j.verdict is not Verdict.BETTER) for c, j in _judge_shifted(g, -m)]


def _check_not_equivalent(g: Gated, condition: str, m: float) -> list[GateCheck]:
    what = f"not shown to be equivalent within {g.unit.size(m)}"
    return [
        _build_check(g, condition, c, what, j.verdict not in _EQUIVALENT_VERDICTS) for c, j in _judge_shifted(g, 0.0, m)
    ]


def _check_undecided(g: Gated, condition: str, m: float) -> list[GateCheck]:
    return [_build_check(g, condition, c, "undecided", c.judgement.verdict is Verdict.UNDECIDED) for c in g.comparisons]


def _check_incomplete(g: Gated, condition: str, m: float) -> list[GateCheck]:
    why = format_list(g.gone) if g.gone else f"{g.done} done"
    return [GateCheck(condition, "all runs", "incomplete", bool(g.gone), why)]


def _check_decided(g: Gated, condition: str, m: float) -> list[GateCheck]:
    """By the verdicts of a study with planned looks; maybe-worse by the repeated interval."""
    if condition == "incomplete":
        return _check_incomplete(g, condition, m)
    claims = {
        "worse": ("worse", True, {Verdict.WORSE, Verdict.WORSE_WITHIN}),
        "not-better": ("not shown to be better", False, {Verdict.BETTER, Verdict.BETTER_WITHIN}),
        "not-equivalent": (f"not shown to be equivalent within {g.unit.size(m)}", False, _EQUIVALENT_VERDICTS),
        "undecided": ("undecided", True, {Verdict.UNDECIDED}),
    }
    found: list[GateCheck] = []
    for c in g.comparisons:
        if condition == "maybe-worse":
            worst = c.estimate.low if g.higher_is_better else -c.estimate.high
            found.append(_build_check(g, condition, c, f"maybe worse{_format_margin(g, m)}", not worst > -m))
        else:
            what, fails_if, verdicts = claims[condition]
            found.append(_build_check(g, condition, c, what, (c.judgement.verdict in verdicts) == fails_if))
    return found


CONDITIONS: Mapping[str, Callable[[Gated, str, float], list[GateCheck]]] = {
    "worse": _check_worse,
    "maybe-worse": _check_maybe_worse,
    "not-better": _check_not_better,
    "not-equivalent": _check_not_equivalent,
    "undecided": _check_undecided,
    "incomplete": _check_incomplete,
}


def _judge_shifted(g: Gated, bonus: float, margin: float = 0.0) -> list[tuple[Comparison, Judgement]]:
    """Each comparison, and its judgement with the bonus; those together are the family that is adjusted."""
    rule = Rule(margin=margin, higher_is_better=g.higher_is_better)
    return list(zip(g.comparisons, judge(g.shift(bonus, margin), rule), strict=True))


def _build_check(g: Gated, condition: str, c: Comparison, what: str, failed: bool) -> GateCheck:
    subject = f"{c.arm} against {c.baseline}"
    if c.judgement.verdict is Verdict.UNTESTABLE:
        why = f"cannot be tested: {c.estimate.n} usable {g.counted.short}, two are needed"
        return GateCheck(condition, subject, what, True, why)
    return GateCheck(condition, subject, what, failed, _format_finding(g, c))


def _format_finding(g: Gated, c: Comparison) -> str:
    e, unit = c.estimate, g.unit
    interval = unit.interval(e.low, e.high)
    between = f", 95 % interval {interval}" if interval else ""
    name = f" {unit.differences}" if unit.differences else ""
    verdict = c.judgement.describe(g.counted.one, g.counted.many)
    return f"{unit.difference(e.mean)}{name}{between}, n = {e.n}, p {format_p_equals(c.judgement.p_zero)}, {verdict}"


def _format_margin(g: Gated, m: float) -> str:
    return f" by more than {g.unit.size(m)}" if m else ""


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
