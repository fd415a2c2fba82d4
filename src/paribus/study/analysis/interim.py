"""The planned looks of a study with sequential seeds, made anew from its values: what each decided, and what runs next.

A look is made once every cell that it needs has ended: of the arms of comparisons that are still open, the seeds up to
that look; and if two of these seeds are usable for each, or it could decide nothing for want of runs. So it does not
matter when somebody reads the numbers in between, or whether more runs are there already: only the planned looks
decide, each on its own seeds, one after the other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from paribus.study.analysis.question import ArmPair
from paribus.study.frozen import Frozen
from paribus.study.looks import Look, RecordedInterim
from paribus.study.stats import (
    Comparison,
    Decision,
    Judgement,
    SequentialPlan,
    Values,
    Verdict,
    arms_to_run,
    compare_all,
    decide,
    minimum_detectable,
)
from paribus.study.stats.estimate import NAN, Estimate
from paribus.study.stats.verdict import Rule

USABLE = 2  # seeds that a comparison needs, or its look could decide nothing


@dataclass(frozen=True)
class Interim:
    """A look that was made. number: counted from 1. seeds: of each arm, up to this look. decisions: one for each
    comparison, in their order; those of comparisons that an earlier look closed are of that look."""

    number: int
    seeds: tuple[int, ...]
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class Interims:
    """looks: seeds of each arm at every planned look. made: the looks so far. needed: arm -> seeds that the study takes
    up to the next look, or took up to where the arm was stopped. over: no look is left that could decide anything."""

    looks: tuple[int, ...]
    made: tuple[Interim, ...]
    needed: Mapping[str, tuple[int, ...]]
    over: bool

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Of the last look; () before the first."""
        return self.made[-1].decisions if self.made else ()

    def record(self, pairs: Sequence[ArmPair]) -> RecordedInterim | None:
        """For looks.jsonl: the last look and the verdicts of the comparisons that are closed by then."""
        if not self.made:
            return None
        closed = {_name(p): d.verdict.value for p, d in zip(pairs, self.decisions, strict=True) if d.closed}
        return RecordedInterim(self.made[-1].number, closed)

    @property
    def all_decided(self) -> bool:
        return bool(self.made) and all(decision.closed for decision in self.decisions)


def follow_looks(
    values: Mapping[str, Values], pairs: Sequence[ArmPair], rule: Rule, plan: SequentialPlan, seeds: Sequence[int]
) -> Interims:
    """Make every look whose cells have ended. values: arm -> seed -> value of cells that have ended, NaN of a failed
    one. seeds: of the study, in order, as many as the last look has."""
    made: list[Interim] = []
    arms = frozenset(arm for pair in pairs for arm in pair)
    needed = dict.fromkeys(values, ())
    decisions: tuple[Decision, ...] = ()
    for number, count in enumerate(plan.looks, start=1):
        now = tuple(seeds[:count])
        needed |= dict.fromkeys(arms, now)
        if any(seed not in values[arm] for arm in arms for seed in now):
            return Interims(plan.looks, tuple(made), needed, over=False)
        found = compare_all({arm: cut_to(found, now) for arm, found in values.items()}, pairs, rule)
        open_ones = [c for i, c in enumerate(found) if not decisions or not decisions[i].closed]
        if any(c.estimate.n < USABLE for c in open_ones):
            return Interims(plan.looks, tuple(made), needed, over=False)
        decisions = decide([c.estimate for c in found], plan, rule, look=number, before=decisions)
        made.append(Interim(number, now, decisions))
        arms = arms_to_run(pairs, decisions)
        if not arms:
            break
    return Interims(plan.looks, tuple(made), needed, over=True)


def list_contradictions(
    looks: Sequence[Look], interims: Interims, pairs: Sequence[ArmPair], frozen: Frozen
) -> list[str]:
    """Verdicts on record that the same look would not give today, and what it had left open and would decide, since
    rows of it were changed: a sentence each. frozen: what is in force; looks under another margin, metric or plan of
    looks are told of elsewhere."""
    now = {_name(pair): decision for pair, decision in zip(pairs, interims.decisions, strict=False)}
    found: dict[str, str] = {}
    for recorded in (look.interim for look in looks if look.interim is not None and look.frozen == frozen):
        for name, verdict in recorded.verdicts.items():
            today = now.get(name)
            if today is None or not today.closed or today.verdict.value != verdict or today.look > recorded.number:
                told = today.verdict.value if today is not None and today.closed else "undecided"
                found.setdefault(
                    name,
                    f"Look {recorded.number} put on record that {name} is “{verdict}”; by the rows that are there now "
                    f"it is “{told}”. Rows of that look were made anew or taken out.",
                )
        for name, today in now.items():
            if today.closed and today.look <= recorded.number and name not in recorded.verdicts:
                found.setdefault(
                    name,
                    f"Look {recorded.number} left {name} open; by the rows that are there now it is "
                    f"“{today.verdict.value}” at look {today.look}. Rows of that look were made anew or taken out.",
                )
    return list(found.values())


def _name(pair: ArmPair) -> str:
    return f"{pair[0]} against {pair[1]}"


def cut_to(values: Values, seeds: Sequence[int]) -> dict[int, float]:
    return {seed: values[seed] for seed in seeds if seed in values}


def compare_at_looks(
    values: Mapping[str, Values], pairs: Sequence[ArmPair], rule: Rule, interims: Interims
) -> tuple[Comparison, ...]:
    """The comparisons, each on the seeds of the look that decided it or else of the last one, with its verdict there
    and its repeated confidence interval. p values are those of the look, to be compared with its level."""
    if not interims.made:
        none = Judgement(Verdict.UNDECIDED, NAN, NAN, None, NAN)
        return tuple(
            replace(
                found,
                judgement=none if found.estimate.n >= USABLE else replace(none, verdict=Verdict.UNTESTABLE),
                estimate=replace(found.estimate, low=NAN, high=NAN),
            )
            for found in compare_all(values, pairs, rule)
        )
    by_look = {
        made.number: compare_all({arm: cut_to(found, made.seeds) for arm, found in values.items()}, pairs, rule)
        for made in interims.made
    }
    return tuple(
        replace(
            by_look[decision.look][i],
            estimate=_drop_infinite(decision.estimate),
            judgement=Judgement(
                decision.verdict,
                decision.estimate.p_zero,
                decision.estimate.p_beyond,
                None,
                _find_detectable(decision, rule),
            ),
        )
        for i, decision in enumerate(interims.decisions)
    )


def _find_detectable(decision: Decision, rule: Rule) -> float:
    """What this look alone would find, at the level that the comparison had there."""
    estimate, level = decision.estimate, decision.level_zero
    if estimate.n < USABLE or not estimate.spread or level <= 0:
        return NAN
    return minimum_detectable(estimate.se, estimate.df, alpha=level, power=rule.power)


def _drop_infinite(estimate: Estimate) -> Estimate:
    """An interval without ends says nothing, and is shown as none."""
    return estimate if math.isfinite(estimate.low) else replace(estimate, low=NAN, high=NAN)
