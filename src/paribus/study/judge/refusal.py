"""What is said of a comparison that cannot be tested, for want of a second run: how many would do."""

from collections.abc import Sequence

from paribus.core.formatting import format_count
from paribus.study.judge.judged import Judged
from paribus.study.report.wording import Unit
from paribus.study.stats.paired import Comparison
from paribus.study.stats.power import seeds_to_decide

_SPREADS = ((0.5, "half of that"), (1.0, "as large"), (2.0, "twice that"))


def format_refusal(c: Comparison, judged: Judged, unit: Unit) -> str:
    """Why there is no verdict, and the seeds that the smallest effect, or what was seen, would take."""
    n, counted = c.estimate.n, "seed" if c.paired else "run"
    where = "in both arms" if c.paired else "in the smaller arm"
    have = f"{'Only one' if n == 1 else 'No'} {counted} {'has a result ' if n == 1 or c.paired else ''}{where}"
    return f"{have}, two are needed to see a spread at all. {_format_needed(c, judged, unit)}".rstrip()


def _format_needed(c: Comparison, judged: Judged, unit: Unit) -> str:
    effect = judged.rule.margin or abs(c.estimate.mean)
    if not effect > 0:
        return "With --margin it is said how many would do."
    alpha = judged.rule.alpha / len(judged.comparisons)
    size = unit.size(effect)
    of = "" if judged.rule.margin else ", as seen here,"
    aim = f"a true difference of {size}{of} is found with {100 * judged.rule.power:.0f} % probability, and one of 0 "
    aim += "called equivalent within it"
    sd = _pool_spread([(arm.n, arm.sd) for arm in judged.arms.values()])
    if sd is not None:
        k = seeds_to_decide(effect, sd=2**0.5 * sd, alpha=alpha, power=judged.rule.power)
        spread = f"{unit.size(float(f'{sd:.3g}'))}"
        return (
            f"Going by the runs that other arms have (sd {spread}), {format_count(k, 'run')} of each arm would do: "
            f"then {aim}. If seeds pair well, fewer."
        )
    needed = [
        f"{format_count(seeds_to_decide(effect, sd=k * effect, alpha=alpha, power=judged.rule.power), 'seed')} if it "
        f"is {what}"
        for k, what in _SPREADS
    ]
    return (
        f"How many would do depends on the spread, which nobody can see in one: so that {aim}, the sd of the "
        f"difference being compared with {size}: {'; '.join(needed)}."
    )


def _pool_spread(arms: Sequence[tuple[int, float]]) -> float | None:
    """The common sd of the arms that have one."""
    known = [(n - 1, sd) for n, sd in arms if n > 1 and sd > 0]
    total = sum(df for df, _ in known)
    return (sum(df * sd * sd for df, sd in known) / total) ** 0.5 if known else None
