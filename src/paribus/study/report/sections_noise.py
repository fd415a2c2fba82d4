"""The noise floor in words: a line among a report's facts, a section of it, and what `paribus study noise` prints."""

from paribus.core.formatting import DASH, format_count, format_list, format_number
from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.noise import Detectable, NoiseFloor
from paribus.study.report.model import Section, Table
from paribus.study.report.wording import Unit, choose_unit, format_p_equals
from paribus.study.stats import ArmSummary, Verdict

FALSE_VERDICTS = "It is one recipe, so “better” or “worse” would be false here; that happens to 5 in 100."
_PAIRING = "What pairing is worth beyond that shows only with both arms: the pairing correlation in a study's report."


def choose_noise_unit(noise: NoiseFloor) -> Unit:
    return choose_unit(noise.metric, [noise.rule.margin, noise.runs.sd, noise.comparison.estimate.mean])


def describe_noise(noise: NoiseFloor, unit: Unit) -> str:
    """In one line, for the facts of a report."""
    if noise.changed:
        return f"measured of another recipe of {noise.arm} than that of these runs ({noise.changed}), so it is not told"
    if not noise.is_measured:
        return f"{noise.runs.n} of {format_count(len(noise.seeds), 'run')} of {noise.arm} against itself are there"
    if not noise.runs.sd > 0:
        return f"{format_count(noise.runs.n, 'run')} of {noise.arm} came out equal"
    first, second = (half.n for half in noise.halves)
    of = f"two halves of {first} runs" if first == second else f"halves of {first} and {second} runs"
    name = f" {unit.differences}".rstrip()
    sd = format_number(noise.runs.sd * unit.scale, unit.digits)
    seen = noise.planned or noise.detectable[0]
    return (
        f"{of} of {noise.arm} differ by {_size(abs(noise.comparison.estimate.mean), unit)}{name}; sd {sd}{name}; "
        f"{seen.n} seeds an arm find a true difference of {_size(seen.unpaired, unit)}{name} in "
        f"{100 * noise.power:.0f} % of studies (unpaired)"
    )


def _size(x: float, unit: Unit) -> str:
    return format_number(x * unit.scale, unit.digits)


def build_noise(a: Analysis, unit: Unit) -> Section | None:
    if a.noise is None or not a.noise.is_measured:
        return None
    return make_section(a.noise, unit)


def make_section(noise: NoiseFloor, unit: Unit) -> Section:
    notes = [
        f"{noise.arm} against itself, on seeds {_list_seeds(noise)}: {describe_halves(noise, unit)} {FALSE_VERDICTS}",
        describe_spread(noise, unit),
        *list_gaps(noise),
    ]
    if noise.runs.sd > 0:
        notes += [explain_table(noise), *describe_needed(noise, unit), _PAIRING]
    return Section("noise", "Noise floor", tuple(notes), (build_table(noise, unit),) if noise.runs.sd > 0 else ())


def _list_seeds(noise: NoiseFloor) -> str:
    seeds = noise.seeds
    if seeds == tuple(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return format_list(map(str, seeds), 8)


def describe_halves(noise: NoiseFloor, unit: Unit) -> str:
    """Means, difference, interval and verdict."""
    estimate, judgement = noise.comparison.estimate, noise.comparison.judgement
    if judgement.verdict is Verdict.UNTESTABLE:
        return "The halves cannot be tested: each needs two runs."
    first, second = (_describe_half(half, unit) for half in noise.halves)
    margin = noise.rule.margin
    nor = f", nor that they are equivalent within {unit.size(margin)}" if margin > 0 else ""
    said = {
        Verdict.UNDECIDED: f"No difference between the halves is shown, as it should be{nor}",
        Verdict.EQUIVALENT: f"The halves are equivalent within {unit.size(margin)}, as they should be",
    }.get(judgement.verdict, f"The first half is called {judgement.verdict.value}, which is false")
    interval = unit.interval(estimate.low, estimate.high)
    name = f" {unit.differences}".rstrip()
    between = f", 95 % interval {interval}" if interval else ""
    return (
        f"{first} and {second}, difference {unit.difference(estimate.mean)}{name}{between} (Welch's t, "
        f"p {format_p_equals(judgement.p_zero)}). {said}."
    )


def _describe_half(half: ArmSummary, unit: Unit) -> str:
    value = unit.value(half.mean) + (f" {unit.values}" if unit.values else "")
    return f"{value} over {format_count(half.n, 'run')}"


def describe_spread(noise: NoiseFloor, unit: Unit) -> str:
    runs, name = noise.runs, f" {unit.differences}".rstrip()
    if runs.n < 2:
        return "The spread between seeds needs two runs."
    if not runs.sd > 0:
        return f"All {runs.n} runs came out equal: no spread is seen, and so no detectable difference can be given."
    low, high = (_size(sd, unit) for sd in (noise.sd_low, noise.sd_high))
    return (
        f"Standard deviation between seeds: {_size(runs.sd, unit)}{name} over {runs.n} runs, 95 % interval {low} to "
        f"{high}."
    )


def list_gaps(noise: NoiseFloor) -> list[str]:
    """Which runs are not in the numbers."""
    gaps = {"Failed": noise.failed, "Missing": noise.missing}
    return [f"{name}: {format_list((f's{seed}' for seed in seeds), 8)}." for name, seeds in gaps.items() if seeds]


def build_table(noise: NoiseFloor, unit: Unit) -> Table:
    name = f" ({unit.differences})" if unit.differences else ""
    rows = tuple(_format_row(one, unit) for one in noise.detectable)
    head = ("seeds an arm", f"unpaired{name}", "if the sd is at an end of its interval", "paired, uncorrelated")
    return Table(head, rows, frozenset[int]())


def _format_row(one: Detectable, unit: Unit) -> tuple[str, ...]:
    between = f"{_size(one.low, unit)} to {_size(one.high, unit)}"
    return (str(one.n), _size(one.unpaired, unit), between if one.unpaired > 0 else DASH, _size(one.paired, unit))


def explain_table(noise: NoiseFloor) -> str:
    level = f"level {noise.alpha:.3g}"
    if noise.comparisons > 1:
        level += f", 0.05 over the study's {noise.comparisons} comparisons"
    return (
        f"The table: the true difference between two arms that so many seeds of each find in {100 * noise.power:.0f} % "
        f"of studies ({level}), if both arms have this spread. Unpaired: by Welch's t. Paired: by the t test of "
        "differences, if the runs of one seed do not correlate."
    )


def describe_needed(noise: NoiseFloor, unit: Unit) -> list[str]:
    needed = noise.needed
    if needed is None:
        return []
    return [
        f"{unit.size(needed.effect)}, the smallest effect of interest: {needed.unpaired:,} seeds an arm find it "
        f"unpaired ({needed.low:,} to {needed.high:,} at the ends of the sd's interval), {needed.paired:,} paired and "
        "uncorrelated."
    ]
