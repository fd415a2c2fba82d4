"""The sections of a report that are about the metric: differences, arms, robustness, curves, factors, the paper."""

import math

from paribus.core.formatting import DASH, format_number
from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.learning import UNMIXED_LOSS
from paribus.study.report.model import Section, Table
from paribus.study.report.wording import Unit, format_chances, format_p, names_more_seeds
from paribus.study.stats.resampling import BCA_MIN_SEEDS

NOT_AGAINST = (
    "Beside, not against: the paper's figure comes from its own data, network and schedule, named under source, and "
    "mostly from a single run or a few without an interval. Agreement is no proof, and disagreement is no refutation."
)
VERDICT = "verdict"  # the column beside the name, where a narrow page shows it without scrolling


def with_unit(unit: str, name: str) -> str:
    return f"{name} ({unit})" if unit else name


def better_direction(a: Analysis) -> str:
    return "to the right is better" if a.spec.higher_is_better else "to the left is better"


def build_arms(a: Analysis, unit: Unit) -> Section:
    of = with_unit(unit.values, "mean")
    rows = tuple(
        (
            name,
            str(arm.n),
            unit.value(arm.mean),
            format_number(arm.sd * unit.scale, unit.digits),
            format_number(arm.se * unit.scale, unit.digits),
            ", ".join(str(seed) for seed in arm.missing[:8]) + (" …" if len(arm.missing) > 8 else "") or "none",
        )
        for name, arm in a.arms.items()
    )
    notes = (
        "Value at the last step, on a held-out split, not used for selection. The population is seeds: sd is the "
        "spread between runs that differ in their seed alone (divisor n − 1), se = sd / √n. Other images or better "
        "tuned settings are not in it.",
    )
    head = ("arm", "n", of, "sd", "se", "seeds without a result")
    return Section("arms", "Arms", notes, (Table(head, rows),))


def build_sensitivity(a: Analysis, unit: Unit) -> Section:
    rows = tuple(
        (
            a.spec.label_comparison(x.comparison.arm, x.comparison.baseline),
            format_number(x.comparison.judgement.minimum_detectable * unit.scale, unit.digits),
            format_number(x.comparison.estimate.effect_size, 2, sign=True),
            format_number(x.pairing.correlation, 2, sign=True),
            format_number(x.pairing.variance_ratio, 2),
            format_number(100 * x.pairing.p_better, 0),
            format_number(100 * x.pairing.p_better_paired, 0),
        )
        for x in a.comparisons
    )
    head = (
        a.spec.comparison_header,
        with_unit(unit.differences, "detectable"),
        "effect size d",
        "pairing correlation",
        "variance ratio",
        "P(arm better) (%)",
        "same seed (%)",
    )
    where = "" if a.interims is None else ", in the look of the verdict alone and at its level"
    notes = (
        "Detectable: the true difference that this many seeds, with this spread, would find in 80 % of "
        f"studies{where}. d: mean difference over the sd of the differences.",
        "Pairing: correlation of the two arms over shared seeds, and var(difference) / (var(arm) + var(baseline)). At "
        "1, sharing seeds was worth nothing; at 0.5, half the seeds.",
        "P(arm better): in so many of all pairs of one run each, the arm is the better one, ties counting half; beside "
        "it the same over runs with equal seeds.",
    )
    return Section("beside", "What these seeds can show", notes, (Table(head, rows),))


def build_robustness(a: Analysis, unit: Unit) -> Section | None:
    rows = tuple(
        (
            a.spec.label_comparison(x.comparison.arm, x.comparison.baseline),
            format_p(x.robustness.sign_flip_p) + ("" if x.robustness.sign_flip_exact else " (sampled)"),
            format_p(x.robustness.sign_flip_floor),
            unit.interval(x.robustness.bca_low, x.robustness.bca_high) or DASH,
        )
        for x in a.comparisons
        if not math.isnan(x.robustness.sign_flip_p)
    )
    if not rows:
        return None
    most = max(x.comparison.estimate.n for x in a.comparisons)
    notes = [
        "The same question without assuming normal differences, not adjusted for the number of comparisons. No verdict "
        "depends on these rows; where they disagree with it, look at the differences. Sign-flip: the share of all "
        "patterns of signs with as large a mean. It cannot fall below 2^(1 − n): with fewer than 6 seeds never to "
        "0.05.",
        f"BCa bootstrap interval: only from {BCA_MIN_SEEDS} seeds on, because with few it is too narrow (at n = 5 it "
        "covers 84 % in place of 95 %)." + (f" Here n is at most {most}." if most < BCA_MIN_SEEDS else ""),
    ]
    head = (
        a.spec.comparison_header,
        "sign-flip p",
        "smallest possible",
        with_unit(unit.differences, "BCa 95 % interval"),
    )
    return Section("robustness", "Robustness", tuple(notes), (Table(head, rows),), short=False)


def build_curves(a: Analysis, unit: Unit) -> Section | None:
    keys = [f"curve {key}" for key, arms in a.curves.items() if arms and not key.startswith("weights/")]
    if not keys:
        return None
    figures = [keys[0], "gap", *keys[1:]] if any(gap.n for gaps in a.gaps.values() for gap in gaps.values()) else keys
    single = all(arm.n <= 1 for arm in a.arms.values())
    notes = (
        "Mean over the finished runs of an arm"
        + (" (one run each)." if single else "; band: ± one standard deviation over seeds.")
        + (
            " Difference: the mean paired difference at each evaluation with its 95 % t interval, each point for "
            "itself; the verdict looks at the last one alone."
            if "gap" in figures
            else ""
        )
        + " The training loss is the arm's own objective, on mixed targets where a technique mixes them, so it "
        "compares within an arm only."
        + (
            f" {UNMIXED_LOSS} compares arms: plain labels, unmixed training images." if UNMIXED_LOSS in a.curves else ""
        ),
    )
    return Section("curves", "Learning curves", notes, (), tuple(figures), short=False)


def build_factors(a: Analysis, unit: Unit) -> Section | None:
    if not a.effects:
        return None
    rows = tuple(
        (
            " × ".join(effect.factors),
            str(effect.judgement),
            str(effect.estimate.n),
            unit.difference(effect.estimate.mean),
            unit.interval(effect.estimate.low, effect.estimate.high) or DASH,
            format_p(effect.judgement.p_zero),
            format_p(effect.judgement.p_beyond),
        )
        for effect in a.effects
    )
    left_out = a.effects[0].left_out
    undecided = any(names_more_seeds(effect.judgement) for effect in a.effects)
    notes = (
        "Main effect: mean of the arms with it minus mean of those without, within a seed. Interaction (×): what the "
        "one adds with the other on minus what it adds with the other off; below 0, where higher is better, the two do "
        "less together than apart suggests. All of them are one family."
        + (f" About k more seeds: with them, {format_chances(unit.size(a.spec.margin), 'effect')}" if undecided else "")
        + (f" Left out, for want of a cell: seeds {', '.join(map(str, left_out))}." if left_out else ""),
    )
    head = (
        "effect",
        VERDICT,
        "seeds",
        with_unit(unit.differences, "size"),
        "95 % interval",
        "p (effect)",
        "p (equivalence)",
    )
    return Section(
        "factors", "Main effects and interactions", notes, (Table(head, rows, frozenset({0, 1})),), ("effects",)
    )


def build_paper(a: Analysis, unit: Unit) -> Section | None:
    if not a.reported or a.spec.also:  # then a section of all claims has them
        return None
    rows = tuple(
        (
            f"{published.arm} {DASH} {published.against}",
            unit.difference(published.difference),
            unit.difference(ours.estimate.mean) if ours else DASH,
            (unit.interval(ours.estimate.low, ours.estimate.high) if ours else "") or DASH,
            published.source,
        )
        for published, ours in a.reported
    )
    notes = (NOT_AGAINST,)
    head = (
        "comparison",
        with_unit(unit.differences, "paper"),
        with_unit(unit.differences, "here"),
        "95 % interval here",
        "source",
    )
    return Section("paper", "The paper's figure and ours", notes, (Table(head, rows, frozenset({0, 4})),), ("paper",))


def build_selection(a: Analysis, unit: Unit) -> Section | None:
    rows = tuple(
        (name, str(bias.n), unit.difference(bias.mean), unit.interval(bias.low, bias.high) or DASH)
        for name, bias in a.bias.items()
        if bias.n
    )
    if not rows:
        return None
    notes = (
        "A diagnostic, not a result: how much each arm would gain if every run reported its best evaluation in place "
        "of its last one. Choosing on the evaluation split makes every arm look better, the noisiest curve most.",
    )
    head = ("arm", "n", with_unit(unit.differences, "best − last"), "95 % interval")
    return Section("selection", "Selection bias (diagnostic)", notes, (Table(head, rows),), short=False)
