"""What is said of a comparison that cannot be tested, for want of a second run: how many would do."""

from collections.abc import Sequence

from paribus.core.formatting import format_count
from paribus.study.judge.judged import RUNS, Judged
from paribus.study.report.wording import SEEDS, Unit
from paribus.study.stats.paired import Comparison
from paribus.study.stats.power import seeds_to_decide

_SPREADS = ((0.5, "half as large"), (1.0, "as large"), (2.0, "twice as large"))


def format_refusal(c: Comparison, judged: Judged, unit: Unit) -> str:
    """Why there is no verdict, and the seeds that the smallest effect, or what was seen, would take."""
    paired = c.paired and judged.counted == SEEDS  # an arm without any result shares all of its none
    one, where = ("seed", "in both arms") if paired else ("run", "in the smaller arm")
    have = f"Only one {one} has a result {where}" if c.estimate.n else f"No {one} has a result {where}"
    return f"{have}, two are needed to see a spread. {_format_needed(c, judged, unit)}"


def _format_needed(c: Comparison, judged: Judged, unit: Unit) -> str:
    effect = judged.rule.margin or abs(c.estimate.mean)
    if not effect > 0:
        return "With --margin it is said how many would do."
    power, alpha = judged.rule.power, judged.rule.alpha / len(judged.comparisons)
    size = unit.size(float(f"{effect:.3g}"))
    seen = "" if judged.rule.margin else " (as large as the one seen)"
    aim = (
        f"For chances of {100 * power:.0f} % that a true difference of {size}{seen} is found, and that one of 0 is "
        "called equivalent within it"
    )
    sd = _pool_spread([(arm.n, arm.sd) for arm in judged.arms.values()])
    if sd is not None:
        k = seeds_to_decide(effect, sd=2**0.5 * sd, alpha=alpha, power=power)
        return (
            f"{aim}, it takes about {format_count(k, RUNS.one, RUNS.many)}, going by the spread of the arms that have "
            f"more (sd {unit.size(float(f'{sd:.3g}'))}); fewer where seeds pair well."
        )
    needed = [seeds_to_decide(effect, sd=k * effect, alpha=alpha, power=power) for k, _ in _SPREADS]
    told = [f"{n} if it is {what}" for n, (_, what) in zip(needed, _SPREADS, strict=True)]
    counted = SEEDS if c.paired else RUNS
    return f"{aim}, how many {counted.many} would do depends on the sd of a difference: {', '.join(told)} as {size}."


def _pool_spread(arms: Sequence[tuple[int, float]]) -> float | None:
    """The common sd of the arms that have one."""
    known = [(n - 1, sd) for n, sd in arms if n > 1 and sd > 0]
    total = sum(df for df, _ in known)
    return (sum(df * sd * sd for df, sd in known) / total) ** 0.5 if known else None
