"""How numbers and verdicts are written: the unit of a metric, p values, intervals, and one sentence per comparison."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from paribus.core.formatting import DASH, NBSP, format_count, format_number
from paribus.study.stats.paired import Comparison
from paribus.study.stats.verdict import Judgement, Rule, Verdict
from paribus.study.units import is_accuracy

POWER = Rule().power
VERDICT_KINDS = {
    Verdict.BETTER: "better",
    Verdict.BETTER_WITHIN: "same",
    Verdict.WORSE: "worse",
    Verdict.WORSE_WITHIN: "same",
    Verdict.HIGHER: "same",
    Verdict.HIGHER_WITHIN: "same",
    Verdict.LOWER: "same",
    Verdict.LOWER_WITHIN: "same",
    Verdict.EQUIVALENT: "same",
    Verdict.UNDECIDED: "open",
    Verdict.UNTESTABLE: "open",
}
# share of studies of two arms without a true difference in which, with a look after every seed from 3 to 10, one says
# better or worse; measured by tests/unit/study/stats/test_simulation.py
FALSE_AFTER_EIGHT_LOOKS = 0.17
LOOKING_AGAIN = (
    "Adding seeds until it is decided is not free: with a look after every seed from 3 to 10, “better” or “worse” is "
    f"said in {100 * FALSE_AFTER_EIGHT_LOOKS:.0f} % of studies without a true difference, in place of 5 %. Decide on a "
    "number of seeds, run them, and look then."
)


@dataclass(frozen=True)
class Counted:
    """What is counted, and would be added: seeds in a study, elsewhere perhaps runs or examples."""

    one: str = "seed"
    many: str = "seeds"

    @property
    def short(self) -> str:
        """Without what they are of: runs, for runs of each arm."""
        return self.many.partition(" ")[0]


SEEDS = Counted()


@dataclass(frozen=True)
class Unit:
    """scale: the factor from a value to what is shown. values, differences: the unit's names, "" where the metric has
    none. digits: after the point."""

    scale: float
    values: str
    differences: str
    digits: int

    def value(self, x: float) -> str:
        return format_number(x * self.scale, self.digits)

    def difference(self, x: float) -> str:
        return format_number(x * self.scale, self.digits, sign=True)

    def size(self, x: float) -> str:
        """A margin or another distance, with its unit and without needless zeros: 0.5 points."""
        text = f"{x * self.scale:.6g}"
        name = "point" if self.differences == "points" and text == "1" else self.differences
        return f"{text} {name}".rstrip()

    def interval(self, low: float, high: float) -> str:
        return "" if math.isnan(low) else f"{self.difference(low)} to {self.difference(high)}"


def choose_unit(metric: str, sizes: Iterable[float], fraction: bool | None = None) -> Unit:
    """Accuracies are recorded as fractions and shown in per cent, their differences in points; so is any metric that is
    said to be a fraction. Others are shown as they are, with three digits of the smallest of the sizes (standard
    deviations, the margin)."""
    if is_accuracy(metric) if fraction is None else fraction:
        return Unit(100.0, "%", "points", 2)
    known = [abs(size) for size in sizes if math.isfinite(size) and size != 0]
    digits = min(8, max(0, 2 - math.floor(math.log10(min(known))))) if known else 4
    return Unit(1.0, "", "", digits)


def format_p(p: float) -> str:
    """Three decimals; more where it would round to 0.05, or where it is very small."""
    if math.isnan(p):
        return DASH
    if p < 1e-4:
        return "< 0.0001"
    return f"{p:.4f}" if p < 0.001 else f"{p:.5f}" if 0.0495 <= p < 0.0505 and p != 0.05 else f"{min(p, 1.0):.3f}"


def format_p_equals(p: float) -> str:
    """= 0.030, or < 0.0001; without a line break in it."""
    text = format_p(p)
    return (text if text.startswith("<") else f"= {text}").replace(" ", NBSP)


def format_verdict(
    c: Comparison, unit: Unit, margin: float, counted: Counted = SEEDS, interval: str = "95 % interval"
) -> tuple[str, str]:
    """The verdict on one comparison in plain words, and the numbers it rests on. counted: what its n is of. interval:
    what its interval is called."""
    verdict, n = c.judgement.verdict, c.estimate.n
    if verdict is Verdict.UNTESTABLE:
        have = "Only one seed has" if n == 1 else "No seed has"
        return f"{c.arm} against {c.baseline} cannot be tested.", f"{have} a result in both arms, two are needed."
    size, direction = unit.size(margin), "better" if verdict in (Verdict.BETTER, Verdict.BETTER_WITHIN) else "worse"
    sentence = {
        Verdict.BETTER: f"{c.arm} is better than {c.baseline}",
        Verdict.WORSE: f"{c.arm} is worse than {c.baseline}",
        Verdict.EQUIVALENT: f"{c.arm} and {c.baseline} are equivalent: if they differ, then by less than {size}",
        Verdict.UNDECIDED: f"Whether {c.arm} differs from {c.baseline} is undecided",
    }.get(
        verdict, f"{c.arm} is {direction} than {c.baseline}, but by less than {size}, the smallest effect of interest"
    )
    return (
        f"{sentence}.",
        f"{_format_numbers(c, unit, counted, interval)}{_format_more_seeds(c, margin, unit, counted)}",
    )


def _format_numbers(c: Comparison, unit: Unit, counted: Counted, interval_name: str) -> str:
    e = c.estimate
    name = f" {unit.differences}" if unit.differences else ""
    interval = unit.interval(e.low, e.high)
    interval = f", {interval_name} {interval}" if interval else ""
    unpaired = f"unpaired, {format_count(e.n, 'run')} in the smaller arm"
    seeds = format_count(e.n, counted.one, counted.many) if c.paired else unpaired
    equivalent = c.judgement.verdict is Verdict.EQUIVALENT
    name_of_p, of = ("p of equivalence", c.judgement.p_beyond) if equivalent else ("p", c.judgement.p_zero)
    p = f"{name_of_p}{NBSP}{format_p_equals(of)}"
    return f"Difference {unit.difference(e.mean)}{name}{interval}; {seeds}; {p}."


def _format_more_seeds(c: Comparison, margin: float, unit: Unit, counted: Counted) -> str:
    """What "about k more seeds" promises, and under which truths."""
    if not names_more_seeds(c.judgement):
        return ""
    k = c.judgement.more_seeds or 0
    added = format_count(k, f"more {counted.one}", f"more {counted.many}")
    more = f" With about {added}" + (f" ({c.estimate.n + k:,} in all)" if c.paired else "")
    if not c.estimate.spread:
        return f"{more}, and if those come out equal too, it would be decided."
    return f"{more}, {format_chances(unit.size(margin), 'difference')}"


def format_chances(size: str, what: str) -> str:
    """What planning by the margin promises."""
    chance = f"{100 * POWER:.0f} %"
    return (
        f"chances are {chance} that a true {what} of {size} is found, and {chance} that one of 0 is called equivalent; "
        "of one in between this says nothing."
    )


def names_more_seeds(judgement: Judgement) -> bool:
    return judgement.verdict is Verdict.UNDECIDED and judgement.more_seeds is not None
