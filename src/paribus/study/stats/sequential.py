"""Stopping when it is decided: a study that looks at fixed numbers of seeds and closes what each look decides.

    plan = SequentialPlan(first=5, more=5, most=30)                # looks at 5, 10, 15, 20, 25, 30 seeds
    found = compare_all(arms, pairs, rule)                         # with the seeds of the first look
    decisions = decide([c.estimate for c in found], plan, rule, look=1)
    arms_to_run(pairs, decisions)                                  # arms that an open comparison still needs
    decisions = decide([...], plan, rule, look=2, before=decisions)

The claims and their two families are those of a study with a fixed number of seeds (verdict.py): *better* or *worse*,
and *equivalent*. Each family errs in at most alpha of all studies, over all looks and comparisons together:

* over looks, by error spending (spending.py): a p value counts only if it is at most the nominal level of its look,
  and these levels are exact for paired t tests of normal differences, from two seeds on;
* over comparisons, by Holm's rule for repeated looks (Ye et al. 2013; Maurer and Bretz 2013): each of m starts with
  alpha / m; one whose claim is made hands its level to the others, whose nominal levels are computed anew for it.

A comparison is closed by the first claim of either family and stays as it was decided, whatever later seeds say. In the
other family it keeps its level, for which it has no more use: closing can only make claims rarer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from paribus.core.errors import ConfigError
from paribus.study.stats.estimate import NAN, Estimate, check_fraction
from paribus.study.stats.spending import Sides, Spending, nominal_levels, spent
from paribus.study.stats.verdict import Rule, Verdict, choose_verdict

DIFFERENT = frozenset({Verdict.BETTER, Verdict.WORSE, Verdict.BETTER_WITHIN, Verdict.WORSE_WITHIN})
NEGLIGIBLE = frozenset({Verdict.EQUIVALENT, Verdict.BETTER_WITHIN, Verdict.WORSE_WITHIN})


@dataclass(frozen=True, slots=True)
class SequentialPlan:
    """When a study looks; fixed before any number is known.

    first: seeds of each arm at the first look, 2 or more. more: seeds added from look to look. most: seeds of the last
    look, after which an undecided comparison stays undecided; the last step is smaller where `more` does not fit.
    spending: how the error is spread over the looks, obrien-fleming (late) or pocock (evenly). alpha: of each family.
    Raises ConfigError on values outside their ranges.
    """

    first: int
    more: int
    most: int
    spending: Spending = "obrien-fleming"
    alpha: float = 0.05

    def __post_init__(self) -> None:
        for name, least in (("first", 2), ("more", 1), ("most", self.first)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{name}: found {value}, must be a whole number of seeds, {least} or more")
        check_fraction("alpha", self.alpha)
        spent(1.0, self.alpha, self.spending)  # refuses an unknown name

    @property
    def looks(self) -> tuple[int, ...]:
        """Seeds of each arm at each look, ascending."""
        return (*range(self.first, self.most, self.more), self.most)

    def levels(self, alpha: float, sides: Sides) -> tuple[float, ...]:
        """What the p value of one comparison is compared with at each look, if it may spend alpha."""
        return nominal_levels(self.looks, alpha, self.spending, sides)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is said of one comparison after a look.

    look: the look, counted from 1, at which this was found: for a closed comparison the one that closed it.
    closed: whether a claim was made; an undecided comparison is open even after the last look.
    estimate: of that look. Its low and high are the repeated confidence interval: over all looks together, 1 - alpha
    of such intervals hold the true difference at every look, so also at the one that stopped. For this comparison
    alone, as in a study with fixed seeds. Infinite where a look may spend next to nothing, NaN below two seeds and
    without spread.
    level_zero, level_beyond: what p_zero and p_beyond were compared with here: with the level that the comparison had
    when its claim was made, or else the one that claims of this look left it, by Holm's rule.
    """

    verdict: Verdict
    look: int
    closed: bool
    estimate: Estimate
    level_zero: float
    level_beyond: float


def decide(
    estimates: Sequence[Estimate], plan: SequentialPlan, rule: Rule, *, look: int, before: Sequence[Decision] = ()
) -> tuple[Decision, ...]:
    """The decisions after a look, from those after the look before it.

    estimates: one for each comparison of the study, the whole family in the order of the plan; of the first
    plan.looks[look - 1] seeds. Those of closed comparisons are not read. before: empty at the first look.
    A failed seed takes its pair along and changes no level: the looks stay where the plan has them.
    """
    if rule.alpha != plan.alpha:
        raise ConfigError(f"alpha: the rule of the study has {rule.alpha}, its sequential plan {plan.alpha}; give one")
    if not 1 <= look <= len(plan.looks) or len(before) not in ((len(estimates),) if look > 1 else (0,)):
        raise ValueError(
            f"look {look} of {len(plan.looks)} with {len(before)} decisions for {len(estimates)} estimates"
        )
    if not estimates:
        return ()
    m, k = len(estimates), look - 1
    said = [d.verdict for d in before] or [Verdict.UNDECIDED] * m
    differs, negligible = (np.array([v in claims for v in said]) for claims in (DIFFERENT, NEGLIGIBLE))
    still_open = ~(differs | negligible)
    zero, beyond = family_levels(plan, m, 2)[:, k], family_levels(plan, m, 1)[:, k]
    differs, at_zero = _test_family([e.p_zero for e in estimates], zero, differs, still_open)
    negligible, at_beyond = _test_family([e.p_beyond for e in estimates], beyond, negligible, still_open)
    interval_level = plan.levels(plan.alpha, 2)[k]
    return tuple(
        Decision(
            choose_verdict(estimate, bool(differs[i]), bool(negligible[i]), rule.higher_is_better),
            look,
            bool(differs[i] or negligible[i]),
            with_repeated_interval(estimate, interval_level),
            at_zero[i],
            at_beyond[i],
        )
        if still_open[i]
        else before[i]
        for i, estimate in enumerate(estimates)
    )


def family_levels(plan: SequentialPlan, m: int, sides: Sides) -> NDArray:
    """Nominal levels of a family of m, of shape (m + 1, looks): row j where j of its claims are still to be made.

    Row j is that of a single comparison at alpha / j. Row 0 has no use; it is 0.
    """
    return np.array([[0.0] * len(plan.looks), *(plan.levels(plan.alpha / j, sides) for j in range(1, m + 1))])


def make_claims(p: NDArray, levels: NDArray, claimed: NDArray, may: NDArray) -> NDArray:
    """Which claims of a family are made after a look; arrays of shape (..., m), a study each.

    p: p values of this look, or anything that is the smaller the stronger, with levels on the same scale. levels: one
    column of `family_levels`. claimed: the claims made before. may: comparisons that are still open. Each claim frees
    level for the others, so the test is repeated until nothing is added: at most m times.
    """
    while True:
        left = (~claimed).sum(-1, keepdims=True)
        added = may & ~claimed & (p <= levels[left])  # NaN, an untestable comparison, is never at most a level
        if not added.any():
            return claimed
        claimed = claimed | added


def _test_family(
    p: Sequence[float], levels: NDArray, before: NDArray, may: NDArray
) -> tuple[NDArray, tuple[float, ...]]:
    """The claims after a look, as `make_claims` has them, and the level that each comparison was compared with."""
    claimed = make_claims(np.array(p), levels, before, may)
    at = [float(levels[max(1, int((~claimed).sum()))])] * len(p)
    left = int((~before).sum())
    # Holm's steps one at a time: a claim that is made here frees level for those with larger p values
    new: list[int] = np.flatnonzero(claimed & ~before).tolist()
    for step, i in enumerate(sorted(new, key=lambda i: p[i])):
        at[i] = float(levels[left - step])
    return claimed, tuple(at)


def with_repeated_interval(estimate: Estimate, level: float) -> Estimate:
    """The estimate with the 1 - level interval in place of its own; level: two-sided nominal one of its look."""
    from scipy.special import stdtrit

    if estimate.n < 2 or not estimate.spread:
        return replace(estimate, low=NAN, high=NAN)
    half = -float(stdtrit(estimate.df, level / 2)) * estimate.se if level > 0 else math.inf
    return replace(estimate, low=estimate.mean - half, high=estimate.mean + half)


def arms_to_run(pairs: Sequence[tuple[str, str]], decisions: Sequence[Decision]) -> frozenset[str]:
    """The arms of comparisons that are still open; the others need no more seeds."""
    return frozenset(arm for pair, d in zip(pairs, decisions, strict=True) if not d.closed for arm in pair)
