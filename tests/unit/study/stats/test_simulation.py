"""What the statistics promise, measured: 2,000 simulated studies a line, through the functions a report calls.

    python -m pytest -q -s tests/unit/study/stats/test_simulation.py

prints the figures that docs/statistics.md quotes (with -m "not slow": without the large runs).
A study is a baseline and three arms; accuracies in points with standard deviation 0.5 over seeds and correlation 0.6
between arms of one seed, as pairing gives. Every figure is a share of 2,000 (or 6,000 comparisons), so it carries a
binomial error, of which the assertions allow three.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from paribus.study.report.wording import FALSE_AFTER_EIGHT_LOOKS
from paribus.study.stats import Comparison, Rule, Verdict, compare_all, estimate, resampling, verdict
from paribus.study.stats.power import seeds_to_decide
from paribus.study.stats.resampling import bca_interval, make_generator, sign_flip_p

STUDIES = 2_000
ARMS = ("cutmix", "adamp", "both")
PAIRS = [(arm, "baseline") for arm in ARMS]
SD, CORRELATION = 0.5, 0.6
SD_DIFFERENCE = SD * math.sqrt(2 * (1 - CORRELATION))
BETTER = {Verdict.BETTER, Verdict.BETTER_WITHIN}
DIFFERENT = BETTER | {Verdict.WORSE, Verdict.WORSE_WITHIN}
EQUIVALENT = {Verdict.EQUIVALENT, Verdict.BETTER_WITHIN, Verdict.WORSE_WITHIN}
RULE = Rule(margin=0.5)


def studies(
    n: int,
    name: str,
    effects: Sequence[float] = (0, 0, 0),
    *,
    count: int = STUDIES,
    images: int = 0,
    disjoint: bool = False,
) -> Iterator[tuple[Comparison, ...]]:
    """The comparisons of one study after another. images: round to what so many test images can tell."""
    random = make_generator("simulated studies", name, n)
    shared = random.normal(size=(count, 1, n)) * SD * math.sqrt(CORRELATION)
    own = random.normal(size=(count, 4, n)) * SD * math.sqrt(1 - CORRELATION)
    values = 90 + shared + own + np.array([0, *effects])[None, :, None]
    if disjoint:
        values = 90 + random.normal(size=(count, 4, n)) * np.array([2 * SD, SD, SD, SD])[None, :, None]
    if images:
        values = np.round(values * images / 100) * 100 / images
    first = [range(k * n, k * n + n) if disjoint else range(n) for k in range(4)]
    for study in values.tolist():
        arms = {a: dict(zip(s, row, strict=True)) for a, s, row in zip(("baseline", *ARMS), first, study, strict=True)}
        yield compare_all(arms, PAIRS, RULE)


def coverage(results: Sequence[tuple[Comparison, ...]], effects: Sequence[float] = (0, 0, 0)) -> float:
    held = [c.estimate.low <= e <= c.estimate.high for study in results for c, e in zip(study, effects, strict=True)]
    return sum(held) / len(held)


def any_said(
    results: Sequence[tuple[Comparison, ...]], verdicts: set[Verdict], about: Sequence[int] = (0, 1, 2)
) -> float:
    return sum(any(study[i].judgement.verdict in verdicts for i in about) for study in results) / len(results)


def each_said(results: Sequence[tuple[Comparison, ...]], verdicts: set[Verdict]) -> float:
    return sum(c.judgement.verdict in verdicts for study in results for c in study) / (3 * len(results))


def at_most(level: float, n: int = STUDIES) -> float:
    return level + 3 * math.sqrt(level * (1 - level) / n)


MANY = pytest.param(20_000, marks=pytest.mark.slow)


@pytest.mark.parametrize("count", [STUDIES, MANY])
@pytest.mark.parametrize("n", [5, 8, 20])
def test_null_studies(n: int, count: int) -> None:
    results = list(studies(n, "null", count=count))
    covered, claimed = coverage(results), any_said(results, DIFFERENT)
    better, worse = any_said(results, BETTER), any_said(results, DIFFERENT - BETTER)
    unadjusted = sum(any(c.estimate.p_zero <= 0.05 for c in study) for study in results) / count
    print(
        f"\n{count} studies, n = {n}, no true difference: the 95 % t interval covers {covered:.1%}; of any arm", end=" "
    )
    print(
        f"better is said in {better:.1%}, worse in {worse:.1%}, either in {claimed:.1%} (without Holm {unadjusted:.1%})"
    )
    assert 0.93 <= covered <= 0.97
    assert max(better, worse) <= 0.05
    assert claimed <= at_most(0.05, count)
    assert unadjusted > 0.08, "the simulation would not notice a family that is not adjusted"


def test_one_true_difference_does_not_make_the_others_louder() -> None:
    results = list(studies(8, "one", (2.0, 0, 0)))
    claimed, found = any_said(results, DIFFERENT, about=(1, 2)), any_said(results, DIFFERENT, about=(0,))
    print(f"\nn =  8, one arm of three truly better: found in {found:.1%}; a claim about the others in {claimed:.1%}")
    assert claimed <= at_most(0.05)
    assert found > 0.95


def looked_at(values: Sequence[Sequence[float]], n: int) -> Comparison:
    """The comparison of a study of two arms after its first n seeds."""
    arms = {name: dict(enumerate(run[:n])) for name, run in zip(("baseline", "cutmix"), values, strict=True)}
    return compare_all(arms, PAIRS[:1], RULE)[0]


def follow_the_advice(values: Sequence[Sequence[float]], n: int) -> bool:
    """Whether better or worse is said in the end, if seeds are added as an undecided report says, again and again."""
    while True:
        judgement = looked_at(values, n).judgement
        if judgement.verdict is not Verdict.UNDECIDED or n == len(values[0]):
            return judgement.verdict in DIFFERENT
        assert judgement.more_seeds is not None
        n = min(n + judgement.more_seeds, len(values[0]))


@pytest.mark.parametrize("count", [1_000, MANY])
def test_looking_again_and_again_is_not_free(count: int) -> None:
    """Two arms without a true difference; a study ends as soon as a report says better or worse."""
    random = make_generator("looking again", count)
    shared = random.normal(size=(count, 1, 60)) * SD * math.sqrt(CORRELATION)
    runs = (90 + shared + random.normal(size=(count, 2, 60)) * SD * math.sqrt(1 - CORRELATION)).tolist()
    first = [[looked_at(study, n).judgement.verdict in DIFFERENT for n in range(3, 11)] for study in runs]
    each, last = sum(map(any, first)) / count, sum(looks[-1] for looks in first) / count
    advised = sum(follow_the_advice(study, 5) for study in runs) / count
    print(f"\n{count} studies of two arms, no true difference: better or worse is said in {each:.1%} with a look after")
    print(
        f"        every seed from 3 to 10, in {last:.1%} with one look at 10, and in {advised:.1%} where from 5 seeds"
    )
    print("        on as many are added as an undecided report names, until it is decided")
    assert last <= at_most(0.05, count)
    assert abs(each - FALSE_AFTER_EIGHT_LOOKS) < 3 * math.sqrt(0.15 / count), "the figure that reports print"
    assert advised > at_most(0.05, count)


@pytest.mark.parametrize(
    ("n", "effects"), [(5, (0.5,) * 3), (20, (0.5,) * 3), (20, (-0.5, 0.5, 0.7)), (80, (0.5,) * 3)]
)
def test_a_difference_of_the_margin_is_not_called_equivalent(n: int, effects: tuple[float, ...]) -> None:
    results = list(studies(n, f"margin {effects}", effects))
    claimed = any_said(results, EQUIVALENT)
    print(
        f"\nn = {n:2}, true differences {effects}, margin 0.5: equivalent said of any arm in {claimed:.1%} of studies"
    )
    assert claimed <= at_most(0.05)
    assert 0.93 <= coverage(results, effects) <= 0.97


def test_with_the_seeds_asked_for_studies_are_decided() -> None:
    n = seeds_to_decide(RULE.margin, sd=SD_DIFFERENCE, alpha=RULE.alpha / 3)
    same = each_said(list(studies(n, "same")), EQUIVALENT)
    other = each_said(list(studies(n, "other", (RULE.margin,) * 3)), DIFFERENT)
    print(
        f"\nn = {n:2}, as seeds_to_decide asks (sd of differences {SD_DIFFERENCE:.2f}, margin 0.5): equivalent said in"
    )
    print(f"        {same:.1%} when the true difference is 0; better said in {other:.1%} when it is the margin")
    assert min(same, other) >= 0.8 - 3 * math.sqrt(0.16 / 3 / STUDIES)
    # Holm asks less than Bonferroni, so a bit more than 80 %; much more would mean that too many seeds were asked for
    assert same < 0.97


def test_a_real_but_negligible_difference_is_called_that() -> None:
    results = list(studies(80, "negligible", (0.25,) * 3))
    both = each_said(results, {Verdict.BETTER_WITHIN})
    wrong = any_said(results, {Verdict.BETTER, Verdict.WORSE})
    print(f"\nn = 80, true difference half the margin: {Verdict.BETTER_WITHIN} in {both:.1%}; plain in {wrong:.1%}")
    assert both > 0.9


@pytest.mark.parametrize("n", [3, 5, 8])
def test_accuracies_on_few_test_images_tie(n: int) -> None:
    results = list(studies(n, "ties", images=360))
    claimed = any_said(results, DIFFERENT)
    flat = sum(not c.estimate.spread for study in results for c in study) / (3 * STUDIES)
    print(
        f"\nn = {n:2}, accuracies on 360 images (steps of 0.28 points; {flat:.1%} of comparisons without spread):",
        end=" ",
    )
    print(f"better or worse said in {claimed:.1%} of null studies")
    assert claimed <= at_most(0.05)


@pytest.mark.parametrize("n", [5, 8, 20])
def test_without_shared_seeds(n: int) -> None:
    results = list(studies(n, "welch", disjoint=True))
    assert not any(c.paired for study in results for c in study)
    covered, claimed = coverage(results), any_said(results, DIFFERENT)
    print(f"\nn = {n:2}, unpaired, the baseline with twice the spread: Welch covers {covered:.1%};", end=" ")
    print(f"better or worse said in {claimed:.1%} of null studies")
    assert 0.93 <= covered <= 0.97
    assert claimed <= at_most(0.05)


@pytest.mark.parametrize(
    ("count", "resamples"), [(STUDIES, 1_000), pytest.param(6_000, 10_000, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("n", "low", "high"), [(5, 0.81, 0.86), (8, 0.86, 0.91), (20, 0.90, 0.95)])
def test_what_the_robustness_rows_hold(n: int, low: float, high: float, count: int, resamples: int) -> None:
    random = make_generator("bca simulation", n)
    samples = random.normal(size=(count, n)).tolist()
    intervals = [bca_interval(d, random, resamples=resamples) for d in samples]
    covered = sum(a <= 0 <= b for a, b in intervals) / count
    print(f"\n{count} samples, n = {n}: the BCa interval of {resamples} resamples covers {covered:.1%}", end="")
    assert low <= covered <= high
    if n <= 8:
        said = sum(sign_flip_p(d) <= 0.05 for d in samples) / count
        print(f"; the sign-flip test finds a difference in {said:.1%} where there is none", end="")
        assert said <= at_most(0.05, count)
        assert (said == 0) == (n < 6)
    print()


def test_negative_control_the_simulation_sees_broken_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(verdict, "holm", list)
        assert any_said(list(studies(8, "null")), DIFFERENT) > at_most(0.05)
        assert any_said(list(studies(20, "margin", (0.5,) * 3)), EQUIVALENT) > at_most(0.05)
    with monkeypatch.context() as patched:
        right = estimate.mean_and_sd
        patched.setattr(estimate, "mean_and_sd", lambda v: (right(v)[0], right(v)[1] * math.sqrt(1 - 1 / len(v))))
        assert coverage(list(studies(5, "null"))) < 0.93
    assert resampling.sign_flip_floor(5) > 0.05 >= resampling.sign_flip_floor(6)
