"""From a study's estimates to its verdicts: two families of claims, each held at alpha by Holm's step-down rule.

A study makes two kinds of claim about its comparisons, and each kind is one family:

* *better* or *worse*: the true difference is not 0 (two-sided t). In at most alpha of all studies is any such claim
  made about a comparison whose true difference is 0.
* *equivalent*: the true difference is smaller than the margin (two one-sided t tests, TOST). In at most alpha of all
  studies is any such claim made about a comparison whose true difference is the margin or more.

Each statement is Holm-adjusted over all comparisons of the study, whatever the other family says; together they err in
at most 2 alpha. The family is fixed by the plan: a comparison that cannot be tested, for lack of seeds, still counts.

Both claims can be true at once: a difference that is real and too small to matter. That is its own verdict, *better
(or worse), but within the margin*, and for a gate it counts as equivalent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from paribus.core.errors import ConfigError
from paribus.study.stats import power
from paribus.study.stats.estimate import NAN, Estimate, check_fraction


@dataclass(frozen=True, slots=True)
class Rule:
    """How a study decides; fixed before any number is known.

    margin: the smallest effect of interest, in the metric's unit (0.005 is half a point of accuracy); 0 means that
    none was stated, and then nothing can be called equivalent. higher_is_better: None where neither way is better; a
    difference is then called higher or lower. alpha: level of each family of claims, and 1 - alpha
    that of the intervals. power: what "about k more seeds" and the minimum detectable difference promise.
    Raises ConfigError on values outside their ranges.
    """

    margin: float = 0.0
    higher_is_better: bool | None = True
    alpha: float = 0.05
    power: float = 0.8

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise ConfigError(f"margin: found {self.margin}, must be a finite number, 0 or more")
        check_fraction("alpha", self.alpha)
        check_fraction("power", self.power)


class Verdict(StrEnum):
    """What a study may say about a comparison; the values are the words a report prints."""

    BETTER = "better"
    WORSE = "worse"
    BETTER_WITHIN = "better, but within the margin"
    WORSE_WITHIN = "worse, but within the margin"
    HIGHER = "higher"
    LOWER = "lower"
    HIGHER_WITHIN = "higher, but within the margin"
    LOWER_WITHIN = "lower, but within the margin"
    EQUIVALENT = "equivalent within the margin"
    UNDECIDED = "undecided"
    UNTESTABLE = "not testable"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one estimate within its study.

    p_zero, p_beyond: the estimate's p values, Holm-adjusted over the study; compare them with alpha.
    more_seeds: for an undecided one, about how many seeds are missing (see `judge`); None where that cannot be said.
    minimum_detectable: the true difference these n seeds find with the rule's power at level alpha / family size.
    """

    verdict: Verdict
    p_zero: float
    p_beyond: float
    more_seeds: int | None
    minimum_detectable: float

    def __str__(self) -> str:
        return self.describe("seed", "seeds")

    def describe(self, one: str, many: str) -> str:
        """one, many: what would be added, where it is not seeds."""
        if self.verdict is Verdict.UNDECIDED and self.more_seeds is not None:
            return f"undecided (about {self.more_seeds:,} more {many if self.more_seeds > 1 else one})"
        return self.verdict.value


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: reject where they are at most alpha.

    A NaN (an untestable hypothesis) stays NaN and counts as p = 1: the family does not shrink for lack of data.
    """
    adjusted, running = [NAN] * len(p), 0.0
    order = sorted((i for i in range(len(p)) if not math.isnan(p[i])), key=lambda i: p[i])
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


def judge(estimates: Sequence[Estimate], rule: Rule) -> tuple[Judgement, ...]:
    """The verdicts of a study. estimates: all of its comparisons, the whole family.

    "About k more seeds" takes the measured sd as the true one and the level alpha / family size, Holm's first and
    strictest step: with n + k seeds, a true difference of the margin's size is found, and a true difference of 0
    called equivalent, each with the rule's power. Where n is past that already, the true difference lies between
    the two, and k is what leaves no outcome undecided.
    """
    return judge_each(estimates, [rule] * len(estimates))


def judge_each(estimates: Sequence[Estimate], rules: Sequence[Rule]) -> tuple[Judgement, ...]:
    """As `judge`, for one family whose members have margins and directions of their own; all rules have one alpha.

    The family of *equivalent* is those whose rule states a margin: the others claim nothing there.
    """
    p_zero, p_beyond = holm([e.p_zero for e in estimates]), [NAN] * len(estimates)
    stated = [i for i, rule in enumerate(rules) if rule.margin > 0]
    for i, p in zip(stated, holm([estimates[i].p_beyond for i in stated]), strict=True):
        p_beyond[i] = p
    return tuple(
        _judge_one(e, p, q, rule.alpha / len(estimates), rule)
        for e, p, q, rule in zip(estimates, p_zero, p_beyond, rules, strict=True)
    )


def _judge_one(estimate: Estimate, p_zero: float, p_beyond: float, level: float, rule: Rule) -> Judgement:
    verdict = choose_verdict(estimate, p_zero <= rule.alpha, p_beyond <= rule.alpha, rule.higher_is_better)
    more = _estimate_more_seeds(estimate, level, rule) if verdict is Verdict.UNDECIDED else None
    measured = estimate.n >= 2 and estimate.spread
    detectable = power.minimum_detectable(estimate.se, estimate.df, alpha=level, power=rule.power) if measured else NAN
    return Judgement(verdict, p_zero, p_beyond, more, detectable)


def choose_verdict(estimate: Estimate, differs: bool, negligible: bool, higher_is_better: bool | None) -> Verdict:
    """differs, negligible: whether each family's claim is made about this comparison."""
    if estimate.n < 2:
        return Verdict.UNTESTABLE
    if not differs:
        return Verdict.EQUIVALENT if negligible else Verdict.UNDECIDED
    if higher_is_better is None:
        within = (Verdict.HIGHER_WITHIN, Verdict.LOWER_WITHIN) if negligible else (Verdict.HIGHER, Verdict.LOWER)
        return within[0] if estimate.mean > 0 else within[1]
    if (estimate.mean > 0) == higher_is_better:
        return Verdict.BETTER_WITHIN if negligible else Verdict.BETTER
    return Verdict.WORSE_WITHIN if negligible else Verdict.WORSE


def _estimate_more_seeds(estimate: Estimate, level: float, rule: Rule) -> int | None:
    if rule.margin == 0:
        return None
    if not estimate.spread:
        return max(1, power.seeds_without_spread(level) - estimate.n)
    needed = power.seeds_to_decide(rule.margin, sd=estimate.sd, alpha=level, power=rule.power)
    if needed <= estimate.n:
        needed = power.seeds_to_settle(rule.margin, sd=estimate.sd, alpha=level)
    return max(1, needed - estimate.n)
