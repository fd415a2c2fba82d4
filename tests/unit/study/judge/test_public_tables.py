"""`paribus judge` on tables of other people's runs (helpers/public_tables.py), against verdicts by SciPy's tests."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from helpers import public_tables as public
from paribus.study.judge.files import judge_files
from paribus.study.judge.judged import Judged, JudgeOptions
from paribus.study.stats import Verdict


@dataclasses.dataclass(frozen=True)
class Expected:
    """p of "no difference" and of "the margin or more", the 95 % interval and the difference, by SciPy."""

    difference: float
    p_zero: float
    p_beyond: float
    low: float
    high: float


def by_welch(arm: Sequence[float], baseline: Sequence[float], margin: float) -> Expected:
    def test(shift: float, alternative: str = "two-sided"):
        return stats.ttest_ind(np.add(arm, shift), baseline, equal_var=False, alternative=alternative)

    return _gather(float(np.mean(arm) - np.mean(baseline)), test, margin)


def by_pairs(arm: Sequence[float], baseline: Sequence[float], margin: float) -> Expected:
    def test(shift: float, alternative: str = "two-sided"):
        return stats.ttest_rel(np.add(arm, shift), baseline, alternative=alternative)

    return _gather(float(np.mean(np.subtract(arm, baseline))), test, margin)


def _gather(difference: float, test: Callable, margin: float) -> Expected:
    both = test(0.0)
    beyond = max(test(-margin, "less").pvalue, test(margin, "greater").pvalue)
    interval = both.confidence_interval(0.95)
    return Expected(difference, both.pvalue, beyond, interval.low, interval.high)


def by_summaries(arm: tuple[int, float, float], baseline: tuple[int, float, float], margin: float) -> Expected:
    (n, mean, sd), (m, other, spread) = arm, baseline

    def p(shift: float, alternative: str = "two-sided") -> float:
        found = stats.ttest_ind_from_stats(
            mean + shift, sd, n, other, spread, m, equal_var=False, alternative=alternative
        )
        return float(found.pvalue)

    squares = sd**2 / n, spread**2 / m
    df = sum(squares) ** 2 / (squares[0] ** 2 / (n - 1) + squares[1] ** 2 / (m - 1))
    low, high = stats.t.interval(0.95, df, mean - other, math.sqrt(sum(squares)))
    return Expected(mean - other, p(0.0), max(p(-margin, "less"), p(margin, "greater")), low, high)


def holm(p: Mapping[str, float]) -> dict[str, bool]:
    """Which are rejected at 0.05: step down from the smallest, until one is not."""
    rejected = dict.fromkeys(p, False)
    for rank, name in enumerate(sorted(p, key=lambda key: p[key])):
        if p[name] * (len(p) - rank) > 0.05:
            break
        rejected[name] = True
    return rejected


def choose_verdicts(expected: Mapping[str, Expected], higher: bool) -> dict[str, Verdict]:
    differs = holm({name: e.p_zero for name, e in expected.items()})
    negligible = holm({name: e.p_beyond for name, e in expected.items()})
    found: dict[str, Verdict] = {}
    for name, e in expected.items():
        better = (e.difference > 0) == higher
        if differs[name]:
            within = (Verdict.BETTER_WITHIN if better else Verdict.WORSE_WITHIN) if negligible[name] else None
            found[name] = within or (Verdict.BETTER if better else Verdict.WORSE)
        else:
            found[name] = Verdict.EQUIVALENT if negligible[name] else Verdict.UNDECIDED
    return found


def check(judged: Judged, expected: Mapping[str, Expected], higher: bool) -> dict[str, Verdict]:
    """Every number, and the verdicts; returns these."""
    assert [c.arm for c in judged.comparisons] == list(expected)
    for c in judged.comparisons:
        e, wanted = c.estimate, expected[c.arm]
        numbers = (e.mean, e.p_zero, e.p_beyond, e.low, e.high)
        assert numbers == pytest.approx(dataclasses.astuple(wanted), rel=1e-9, abs=1e-12)
    verdicts = {c.arm: c.judgement.verdict for c in judged.comparisons}
    assert verdicts == choose_verdicts(expected, higher)
    return verdicts


def judge(path: Path, **asked: str) -> Judged:
    given = {key: asked.pop(key) for key in ("against", "margin") if key in asked}
    return judge_files([path], JudgeOptions(columns=asked, **given))


def expect_runs(arms: Mapping[str, Sequence[float]], baseline: str, margin: float) -> dict[str, Expected]:
    return {name: by_welch(values, arms[baseline], margin) for name, values in arms.items() if name != baseline}


def test_losses_of_a_speedrun_without_seeds_are_judged_unpaired(tmp_path: Path) -> None:
    path = public.write_runs(tmp_path / "losses.csv", public.NANOGPT_LOSSES, "val_loss")
    baseline = "2025-09-29_PolarExpress"
    judged = judge(path, against=baseline, margin="0.001")
    verdicts = check(judged, expect_runs(public.NANOGPT_LOSSES, baseline, 0.001), higher=False)
    assert verdicts["2025-10-28_CautiousWD"] is Verdict.BETTER
    assert verdicts["2025-09-21_DropAttn"] is Verdict.UNDECIDED
    assert not any(c.paired for c in judged.comparisons)
    assert "no seeds" in judged.cautions[0]


def test_times_of_a_speedrun(tmp_path: Path) -> None:
    path = public.write_runs(tmp_path / "times.csv", public.NANOGPT_TIMES, "time")
    judged = judge(path, against="PR#133", margin="1")
    verdicts = check(judged, expect_runs(public.NANOGPT_TIMES, "PR#133", 1.0), higher=False)
    assert verdicts == {"2025-09-29_PolarExpress": Verdict.BETTER}


@pytest.mark.parametrize("table", [public.MISH, public.MISH_OF_THREE], ids=["23 runs", "3 runs"])
def test_summaries_of_activation_functions(table: dict[str, tuple[int, float, float]], tmp_path: Path) -> None:
    judged = judge(public.write_summaries(tmp_path / "mish.csv", table), against="Mish", margin="0.5")
    expected = {name: by_summaries(row, table["Mish"], 0.5) for name, row in table.items() if name != "Mish"}
    verdicts = check(judged, expected, higher=True)
    assert (judged.kind, judged.unit.values) == ("summaries", "%")
    if table is public.MISH:
        assert (verdicts["Swish-1"], verdicts["ReLU"]) == (Verdict.EQUIVALENT, Verdict.WORSE)
    else:  # 9 points down in 3 runs: what is seen is large, and so is the spread
        assert (verdicts["Sigmoid"], verdicts["ELisH"]) == (Verdict.UNDECIDED, Verdict.EQUIVALENT)


def test_the_intervals_are_those_that_the_authors_printed(tmp_path: Path) -> None:
    # theirs pool the variances and start from unrounded means, so two digits are what can agree
    judged = judge(public.write_summaries(tmp_path / "mish.csv", public.MISH), against="Mish")
    for c in judged.comparisons:
        assert (c.estimate.low, c.estimate.high) == pytest.approx(public.MISH_INTERVALS[c.arm], abs=0.02)


def test_classifiers_on_fourteen_data_sets_are_paired_by_data_set(tmp_path: Path) -> None:
    judged = judge(public.write_data_sets(tmp_path / "c45.csv"), seed="data set", against="C4.5", margin="0.02")
    arms = {name: values for name, values in public.C45.items() if name != "C4.5"}
    expected = {name: by_pairs(values, public.C45["C4.5"], 0.02) for name, values in arms.items()}
    verdicts = check(judged, expected, higher=True)
    assert list(verdicts.values()) == [Verdict.BETTER, Verdict.UNDECIDED, Verdict.BETTER]
    assert all(c.paired and c.estimate.n == 14 for c in judged.comparisons)


def test_seeds_of_a_keras_net(tmp_path: Path) -> None:
    judged = judge(
        public.write_seeds(tmp_path / "keras.csv", public.KERAS, "test_acc"), against="200 epochs", margin="0.2pt"
    )
    one, other = (list(public.KERAS[name].values()) for name in ("360 epochs", "200 epochs"))
    verdicts = check(judged, {"360 epochs": by_pairs(one, other, 0.002)}, higher=True)
    assert verdicts == {"360 epochs": Verdict.UNDECIDED}


@pytest.mark.parametrize(("case", "verdict"), [("A", Verdict.BETTER_WITHIN), ("B", Verdict.UNDECIDED)])
def test_two_models_on_ten_thousand_examples(case: str, verdict: Verdict, tmp_path: Path) -> None:
    path = public.write_correctness(tmp_path / "right.csv", public.MLXTEND[case])
    (c,) = judge_files([path], JudgeOptions(against="model 1", margin="0.2pt"), examples=True).comparisons
    both, second, first, neither = public.MLXTEND[case]
    n = both + second + first + neither
    assert c.estimate.mean == (second - first) / n
    assert c.estimate.p_zero == pytest.approx(stats.binomtest(second, second + first).pvalue, rel=1e-12)
    assert c.judgement.verdict is verdict


def test_one_run_a_model_gets_no_verdict_and_is_told_how_many_would_do(tmp_path: Path) -> None:
    from paribus.study.judge.report import build_judge_report

    path = tmp_path / "timm.csv"
    path.write_text(public.TIMM)
    judged = judge(path, against="regnety_160.sw_in12k_ft_in1k", margin="0.2pt")
    assert {c.judgement.verdict for c in judged.comparisons} == {Verdict.UNTESTABLE}
    for sentence in build_judge_report(judged).verdicts:
        assert sentence.said.endswith("cannot be tested.")
        assert (
            "6 if it is half as large, 13 if it is as large, 44 if it is twice as large as 0.2 points"
            in sentence.numbers
        )


def test_negative_control_a_wrong_reading_of_a_table_is_told_from_the_reference(tmp_path: Path) -> None:
    path = public.write_summaries(tmp_path / "mish.csv", public.MISH)
    right = {name: by_summaries(row, public.MISH["Mish"], 0.5) for name, row in public.MISH.items() if name != "Mish"}
    halved = {name: (n, mean, sd / n**0.5) for name, (n, mean, sd) in public.MISH.items()}  # standard errors for sd
    wrong = judge(public.write_summaries(tmp_path / "wrong.csv", halved), against="Mish", margin="0.5")
    with pytest.raises(AssertionError):
        check(wrong, right, higher=True)
    with pytest.raises(AssertionError):  # the other direction
        check(judge(path, against="Mish", margin="0.5"), right, higher=False)
    judged = judge(
        public.write_seeds(tmp_path / "keras.csv", public.KERAS, "test_acc"), against="200 epochs", margin="0.2pt"
    )
    unpaired = by_welch(*(list(public.KERAS[name].values()) for name in ("360 epochs", "200 epochs")), 0.002)
    with pytest.raises(AssertionError):
        check(judged, {"360 epochs": unpaired}, higher=True)
