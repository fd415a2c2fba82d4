"""The sections of a report about its comparisons: their differences and, where looks were planned, what each of these
saw and decided (analysis/interim.py)."""

import math

from paribus.core.formatting import DASH, format_count, format_list, format_number
from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.interim import Interim
from paribus.study.report.model import Section, Table
from paribus.study.report.sections import VERDICT, better_direction, with_unit
from paribus.study.report.wording import Unit, format_p
from paribus.study.stats import Verdict


def build_differences(a: Analysis, unit: Unit) -> Section:
    """The forest plot, and the table it shows."""
    d = with_unit(unit.differences, "difference")
    rows = tuple(
        (
            a.spec.label_comparison(c.arm, c.baseline),
            str(c.judgement),
            str(c.estimate.n) if c.paired else f"{c.estimate.n}, unpaired",
            unit.difference(c.estimate.mean),
            unit.interval(c.estimate.low, c.estimate.high) or DASH,
            format_p(c.judgement.p_zero),
            format_p(c.judgement.p_beyond),
        )
        for c in (compared.comparison for compared in a.comparisons)
    )
    notes = _explain_differences(a, unit) if a.interims is None else _explain_looks(a, unit)
    if any(not c.comparison.paired for c in a.comparisons):
        notes.append(
            "Unpaired: the two arms share too few seeds, so Welch's t test takes over with all runs of both. It takes "
            "them for independent."
        )
    interval = "95 % interval" if a.interims is None else "repeated 95 % interval"
    head = (a.spec.comparison_header, VERDICT, "seeds", d, interval, "p (difference)", "p (equivalence)")
    return Section("differences", "Differences", tuple(notes), (Table(head, rows, frozenset({0, 1})),), ("forest",))


def _explain_looks(a: Analysis, unit: Unit) -> list[str]:
    shaded = f" Shaded: ± {unit.size(a.spec.margin)}, the smallest effect of interest." if a.spec.margin else ""
    return [
        "Each comparison on the seeds of the planned look that decided it, or else of the last look. Point and line: "
        f"mean paired difference and its repeated 95 % confidence interval ({better_direction(a)}); where it reaches "
        f"the edge of the picture, it goes on beyond.{shaded}",
        "p values are not adjusted; what they have to reach is under Planned looks. “Better” means that the difference "
        "is not 0; how large it is, the interval shows. Secondary metrics, costs and curves use all runs that there "
        "are, and their intervals take no account of looks.",
    ]


def _explain_differences(a: Analysis, unit: Unit) -> list[str]:
    margin = unit.size(a.spec.margin)
    family = format_count(len(a.comparisons), "comparison")
    return [
        f"Point and line: mean paired difference over seeds and its 95 % t interval ({better_direction(a)}). "
        + (f"Shaded: ± {margin}, the smallest effect of interest. " if a.spec.margin else "")
        + "Each interval is for its own comparison, not widened for the others, so one without 0 in it may stand "
        "beside "
        "“undecided”.",
        "p (difference) asks whether the true difference is 0"
        + (f"; p (equivalence) whether it is {margin} or more, up or down (TOST)" if a.spec.margin else "")
        + f". Both are adjusted by Holm's rule over the study's {family} and decide at 0.05. “Better” means that the "
        "difference is not 0; how large it is, the interval shows.",
    ]


def build_along(a: Analysis, unit: Unit) -> Section | None:
    """The differences in the order of what they are drawn along, with both arms' losses on unmixed training images.
    Nothing where the study names nothing."""
    if a.spec.along is None:
        return None
    found = {(c.arm, c.baseline): c for c in (compared.comparison for compared in a.comparisons)}
    lines = list(dict.fromkeys(line for line, _ in a.spec.places.values()))
    rows = tuple(
        (
            line or DASH,
            f"{at:,.6g}",
            str(c.judgement),
            unit.difference(c.estimate.mean),
            unit.interval(c.estimate.low, c.estimate.high) or DASH,
            *(format_number(a.losses[arm].mean, 3) if a.losses[arm].n else DASH for arm in pair),
        )
        for pair, (line, at) in sorted(a.spec.places.items(), key=lambda one: (lines.index(one[1][0]), one[1][1]))
        for c in (found[pair],)
    )
    interval = "95 % interval" if a.interims is None else "repeated 95 % interval"
    head = ("line", a.spec.along.name, VERDICT, with_unit(unit.differences, "difference"), interval)
    head = (*head, "loss with", "loss without")
    keep = [i for i in range(len(head)) if i or lines != [""]]  # a lone line without a name needs no column
    rows, head = tuple(tuple(row[i] for i in keep) for row in rows), tuple(head[i] for i in keep)
    notes = (
        f"The same comparisons along {a.spec.along.name}, each with its own interval and verdict; the lines between "
        "them are drawn for the eye. Losses are cross entropies of the plain labels on unmixed training images at the "
        "last step, means over seeds: near 0, an arm has nothing left to learn from them.",
    )
    left = frozenset(i for i, name in enumerate(head) if name in ("line", VERDICT))
    figures = ("along", "along losses")
    return Section("along", f"Along {a.spec.along.name}", notes, (Table(head, rows, left),), figures)


def build_looks(a: Analysis, unit: Unit) -> Section | None:
    """Nothing where the number of seeds is fixed."""
    if a.interims is None or a.spec.sequential is None:
        return None
    rows = tuple(row for made in a.interims.made for row in _list_rows(a, unit, made))
    head = (
        *("look", a.spec.comparison_header, "decision", "seeds", with_unit(unit.differences, "difference")),
        *("repeated 95 % interval", "p difference (needed)", "p equivalence (needed)"),
    )
    how = "late (O'Brien–Fleming)" if a.spec.sequential.spending == "obrien-fleming" else "evenly (Pocock)"
    notes = (
        f"Looks were planned at {format_list(str(n) for n in a.interims.looks)} seeds before the first run, and 5 % of "
        f"error of each kind (a false better or worse, a false equivalent) is spent over them, {how}: a p value counts "
        "if it is at most what its look needs, Holm's rule over the comparisons included. The first claim closes a "
        "comparison; later seeds do not reopen it.",
        "Repeated 95 % confidence interval: over all looks together, 95 % of such intervals hold the true difference, "
        "so also at the look that stopped; it is wider than that of a study with fixed seeds. The difference at a "
        "look that stopped early is somewhat too large on average, since the studies that happened to see a large one "
        "stop there.",
    )
    tables = (Table(head, rows, frozenset({1, 2})),) if rows else ()
    return Section("looks", "Planned looks", notes, tables)


def _list_rows(a: Analysis, unit: Unit, made: Interim) -> list[tuple[str, ...]]:
    """A row for each comparison that was still open at this look."""
    return [
        (
            str(made.number),
            a.spec.label_comparison(*pair),
            d.verdict.value if d.closed else "open",
            str(len(made.seeds)),
            unit.difference(d.estimate.mean),
            unit.interval(d.estimate.low, d.estimate.high) if math.isfinite(d.estimate.low) else DASH,
            "{} ({})".format(*format_beside(d.estimate.p_zero, d.level_zero)),
            "{} ({})".format(*format_beside(d.estimate.p_beyond, d.level_beyond)),
        )
        for pair, d in zip(a.spec.pairs, made.decisions, strict=True)
        if d.look == made.number
    ]


def format_beside(p: float, level: float) -> tuple[str, str]:
    """A p value and what it is compared with, in three significant digits or as many as tell them apart: one that is
    just above its level is not enough."""
    if math.isnan(p):
        return DASH, _format_digits(level, 3)
    digits = next((n for n in range(3, 8) if _format_digits(p, n) != _format_digits(level, n)), 3)
    return _format_digits(p, digits), _format_digits(level, digits)


def _format_digits(p: float, digits: int) -> str:
    return f"{p:.{digits}g}" if p >= 1e-4 or not p else f"{p:.{digits - 1}e}".replace("e-0", "e-")


def format_state(a: Analysis) -> str:
    """How far the planned looks have come, in a sentence; "" where the number of seeds is fixed."""
    if a.interims is None:
        return ""
    made, looks = a.interims.made, a.interims.looks
    if a.interims.all_decided:
        return f"All is decided at look {len(made)} of {len(looks)}, with {len(made[-1].seeds)} of {looks[-1]} seeds."
    if a.interims.over:
        return f"The last planned look, at {looks[-1]} seeds, was made; what it did not decide stays undecided."
    at = f"look {len(made)} of {len(looks)} was made" if made else "no look was made yet"
    return f"Not over: {at}, and the next is at {looks[len(made)]} seeds. Runs beyond the last look decide nothing yet."


def explain_look(a: Analysis, index: int) -> str:
    """Beside a verdict: the look that it is of. index: of the comparison."""
    if a.interims is None or not a.interims.made:
        return ""
    decision, looks = a.interims.decisions[index], len(a.interims.looks)
    if decision.closed:
        e, negligible = decision.estimate, decision.verdict is Verdict.EQUIVALENT
        p, level = (e.p_beyond, decision.level_beyond) if negligible else (e.p_zero, decision.level_zero)
        was, needed = format_beside(p, level)
        return f"Decided at look {decision.look} of {looks}: p was {was} and had to be at most {needed}."
    return f"Not decided at look {decision.look} of {looks}."
