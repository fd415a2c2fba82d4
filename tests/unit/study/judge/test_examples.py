"""Models on the same examples: the score test by constrained likelihood, clusters by SciPy's t, the bootstrap."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

from paribus.core.errors import ConfigError
from paribus.study.judge.files import judge_files
from paribus.study.judge.judged import Judged, JudgeOptions
from paribus.study.stats.paired_binary import (
    Outcomes,
    bootstrap_interval,
    count_outcomes,
    estimate_difference,
    mcnemar_p,
)

OUTCOMES = [(40, 9, 3, 10), (40, 0, 3, 10), (40, 0, 0, 10), (9_000, 120, 80, 800), (5, 3, 0, 0), (9_959, 11, 1, 29)]


def score_by_likelihood(o: Outcomes, delta: float) -> float:
    """The statistic with the likeliest proportions under "the difference is delta", found by a numerical search."""
    n, b, c = o.n, o.arm, o.baseline

    def surprise(q: float) -> float:
        terms = ((b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta))
        return -sum(k * math.log(max(x, 1e-300)) for k, x in terms if k)

    bounds = (max(0.0, -delta) + 1e-13, (1 - delta) / 2 - 1e-13)
    q = optimize.minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-14}).x
    return (b - c - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))


@pytest.mark.parametrize("counts", OUTCOMES)
@pytest.mark.parametrize("margin", [0.01, 0.05, 0.2])
def test_the_margin_is_tested_with_the_likeliest_proportions(counts: tuple[int, ...], margin: float) -> None:
    o = Outcomes(*counts)
    above, below = score_by_likelihood(o, margin), score_by_likelihood(o, -margin)
    expected = max(stats.norm.cdf(above), stats.norm.sf(below))
    assert estimate_difference(o, margin=margin).p_beyond == pytest.approx(expected, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("counts", OUTCOMES)
def test_the_interval_is_what_the_score_test_does_not_reject(counts: tuple[int, ...]) -> None:
    o = Outcomes(*counts)
    e = estimate_difference(o)
    for end, statistic in ((e.low, 1.959964), (e.high, -1.959964)):
        if abs(end) < 1 - 1e-6:
            assert score_by_likelihood(o, end) == pytest.approx(statistic, rel=1e-4)
    assert e.low < e.high


@pytest.mark.parametrize("counts", OUTCOMES)
def test_mcnemar_is_the_exact_binomial_test(counts: tuple[int, ...]) -> None:
    o = Outcomes(*counts)
    different = o.arm + o.baseline
    expected = stats.binomtest(o.arm, different).pvalue if different else 1.0
    assert mcnemar_p(o.arm, o.baseline) == estimate_difference(o).p_zero == pytest.approx(expected, rel=1e-12)


def test_a_bonus_moves_the_interval_and_the_hypothesis() -> None:
    o = Outcomes(400, 60, 30, 110)
    e, moved = estimate_difference(o), estimate_difference(o, bonus=0.05)
    assert (moved.mean, moved.low, moved.high) == pytest.approx((e.mean + 0.05, e.low + 0.05, e.high + 0.05))
    assert moved.p_zero == pytest.approx(2 * stats.norm.sf(abs(score_by_likelihood(o, -0.05))), rel=1e-4)


def draw(n: int, clusters: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    at = np.sort(random.integers(0, clusters, n))
    at[:clusters] = np.arange(clusters)
    hard = random.normal(size=clusters)[at]
    return hard + random.normal(size=n) > -1.1, hard + random.normal(size=n) > -1.0, at


def test_clusters_of_one_example_are_a_paired_t_test() -> None:
    one, other, _ = draw(300, 300)
    e = estimate_difference(count_outcomes(one, other, np.arange(300)), margin=0.05)
    d = one.astype(float) - other.astype(float)
    assert e.p_zero == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=1e-9)
    beyond = max(stats.ttest_1samp(d, s, alternative=a).pvalue for s, a in ((0.05, "less"), (-0.05, "greater")))
    assert e.p_beyond == pytest.approx(beyond, rel=1e-9)


def test_clusters_of_equal_size_are_a_t_test_on_their_means() -> None:
    one, other, _ = draw(400, 20)
    e = estimate_difference(count_outcomes(one, other, np.repeat(np.arange(20), 20)))
    means = (one.astype(float) - other.astype(float)).reshape(20, 20).mean(axis=1)
    found = stats.ttest_1samp(means, 0)
    interval = found.confidence_interval(0.95)
    assert (e.p_zero, e.low, e.high) == pytest.approx((found.pvalue, interval.low, interval.high), rel=1e-9)


def test_copies_of_examples_are_seen_through_by_clusters_alone() -> None:
    """Each example ten times: to McNemar ten times the evidence, to clusters none at all. (The negative control.)"""
    one, other, _ = draw(200, 200, seed=3)
    plain = estimate_difference(count_outcomes(one, other))
    copied = [np.repeat(x, 10) for x in (one, other, np.arange(200))]
    blind = estimate_difference(count_outcomes(*copied[:2]))
    seen = estimate_difference(count_outcomes(*copied))
    assert blind.p_zero < plain.p_zero / 2
    assert blind.high - blind.low < 0.5 * (plain.high - plain.low)
    assert seen.high - seen.low == pytest.approx(plain.high - plain.low, rel=0.05)


@pytest.mark.parametrize("clustered", [False, True])
def test_the_bootstrap_is_scipys(clustered: bool) -> None:
    one, other, at = draw(500, 60, seed=5)
    o = count_outcomes(one, other, at if clustered else None)
    low, high = bootstrap_interval(o, np.random.default_rng(1))
    d = one.astype(float) - other.astype(float)
    data = (d,) if not clustered else (np.bincount(at, weights=d), np.bincount(at).astype(float))
    found = stats.bootstrap(
        data,
        (lambda s, n, axis: s.sum(axis) / n.sum(axis)) if clustered else np.mean,
        paired=clustered,
        vectorized=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.004)
    assert (low, high) == bootstrap_interval(o, np.random.default_rng(1))


def test_the_score_interval_covers_where_few_examples_differ() -> None:
    """In 2,000 test sets of 200 with a true difference of 1.5 points. The percentile bootstrap is left behind."""
    random = np.random.default_rng(0)
    drawn = random.multinomial(200, [0.02, 0.005, 0.975], size=2000)
    intervals = {(b, c): estimate_difference(Outcomes(0, int(b), int(c), 200 - int(b + c))) for b, c, _ in drawn}
    covered = [intervals[b, c].low <= 0.015 <= intervals[b, c].high for b, c, _ in drawn]
    assert 0.93 < np.mean(covered) < 0.98


ROWS = [("x", 1, 0, "p"), ("y", 1, 1, "p"), ("z", 0, 1, "q"), ("w", 1, 0, "q"), ("v", 1, 0, "r")]


def numbers(judged: Judged) -> tuple[object, ...]:
    (c,), (o,) = judged.comparisons, judged.outcomes
    return c.arm, c.baseline, c.estimate, o, o.clusters


def test_columns_rows_and_files_are_the_same_examples(tmp_path: Path) -> None:
    def write(name: str, lines: list[str]) -> Path:
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return tmp_path / name

    wide = write("wide.csv", ["id,cluster,old,new", *(f"{i},{g},{a},{b}" for i, a, b, g in ROWS)])
    long = [f"{i},{g},{m},{ok}" for i, a, b, g in ROWS for m, ok in (("old", a), ("new", b))]
    rows = write("long.csv", ["id,cluster,model,correct", *long[1::2], *reversed(long[::2])])
    old = write("old.csv", ["id,cluster,correct", *(f"{i},{g},{['wrong', 'right'][a]}" for i, a, _, g in ROWS)])
    new = write("new.csv", ["id,cluster,correct", *(f"{i},{g},{b == 1}" for i, _, b, g in reversed(ROWS))])
    asked = JudgeOptions(against="old", margin="5")
    one, two, three = (judge_files(paths, asked, examples=True) for paths in ([wide], [rows], [old, new]))
    assert numbers(one) == numbers(two) == numbers(three)
    assert one.outcomes[0] == Outcomes(1, 1, 3, 0)
    without = judge_files([wide], JudgeOptions(against="old", values=("old", "new")), examples=True)
    assert without.comparisons[0].estimate.mean == one.comparisons[0].estimate.mean == -0.4


def test_one_column_of_several_files_without_names_is_matched_by_place(tmp_path: Path) -> None:
    for name, cells in (("a", "101"), ("b", "110")):
        (tmp_path / f"{name}.csv").write_text("correct\n" + "\n".join(cells) + "\n")
    judged = judge_files([tmp_path / "a.csv", tmp_path / "b.csv"], JudgeOptions(against="a"), examples=True)
    assert judged.outcomes == (Outcomes(1, 1, 1, 0),)
    assert any("in the same place" in text for text in judged.cautions)


def test_no_difference_at_all_is_no_proof_of_equivalence(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "1,1\n" * 20)
    judged = judge_files([tmp_path / "t.csv"], JudgeOptions(against="a", margin="1"), examples=True)
    (c,) = judged.comparisons
    assert (str(c.judgement), c.judgement.more_seeds) == ("undecided", None)
    assert c.estimate.high > 0.1
    with pytest.raises(ConfigError, match="needs a column of 0 and 1"):
        judge_files([tmp_path / "t.csv"], JudgeOptions(against="a", values=("a",)), examples=True)


def test_clusters_count_whichever_file_names_them(tmp_path: Path) -> None:
    """Copies in clusters that one model's file leaves out: in either order the test is the cluster's."""
    rng = np.random.default_rng(3)
    one, two = (rng.integers(0, 2, 12).repeat(5) for _ in range(2))
    plain, named = tmp_path / "plain.csv", tmp_path / "named.csv"
    plain.write_text("example,correct\n" + "".join(f"{i},{v}\n" for i, v in enumerate(one)))
    order = rng.permutation(60)
    named.write_text("example,correct,cluster\n" + "".join(f"{i},{two[i]},c{i // 5}\n" for i in order))
    asked = JudgeOptions(against="plain", margin="1")
    first, second = (judge_files(paths, asked, examples=True) for paths in ([plain, named], [named, plain]))
    assert first.comparisons[0].estimate.p_zero == pytest.approx(second.comparisons[0].estimate.p_zero, rel=1e-12)
    assert first.test == second.test
    control = tmp_path / "other" / "named.csv"
    control.parent.mkdir()
    control.write_text("example,correct\n" + "".join(f"{i},{two[i]}\n" for i in order))
    without = judge_files([plain, control], asked, examples=True)
    assert without.comparisons[0].estimate.p_zero != pytest.approx(first.comparisons[0].estimate.p_zero, rel=0.01)


def test_an_example_in_two_clusters_is_refused(tmp_path: Path) -> None:
    rows = ["a,x,1,p", "a,y,0,q", "b,x,1,p", "b,y,1,p"]
    (tmp_path / "t.csv").write_text("model,example,correct,cluster\n" + "\n".join(rows) + "\n")
    with pytest.raises(ConfigError, match="is in cluster p, and the same example of another model in q"):
        judge_files([tmp_path / "t.csv"], JudgeOptions(against="a"), examples=True)


def test_of_two_columns_that_say_right_one_has_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("model,example,right,strict\na,x,1,0\nb,x,1,1\n")
    with pytest.raises(ConfigError, match="--value: found right, strict; a row says of one model"):
        judge_files([tmp_path / "t.csv"], JudgeOptions(against="a", values=("right", "strict")), examples=True)
