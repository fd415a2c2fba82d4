"""The gate: which condition holds where, on differences that are laid out by hand."""

from xml.etree import ElementTree

import pytest

from helpers.reports import failed, invented, question
from paribus.cli.arguments import gate as declared
from paribus.core.errors import ConfigError
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.report.gate import CONDITIONS, format_junit, run_checks

SPREAD = (-0.002, -0.001, 0.0, 0.0005, 0.001, 0.0015)  # mean 0 up to 1/6000, t interval about ± 0.0014


def apart_by(difference: float, seeds: int = 6, **changes: object) -> Analysis:
    """An arm whose paired differences to the baseline have this mean and a small spread."""

    def run(arm: str, seed: int, value: float):
        row = invented(arm, seed)
        return invented(arm, seed, metrics={**row.metrics, "val/acc1": value})

    base = [run("baseline", seed, 0.9 + seed / 100) for seed in range(seeds)]
    arm = [run("cutmix", seed, 0.9 + seed / 100 + difference + SPREAD[seed]) for seed in range(seeds)]
    return analyse(question(["baseline", "cutmix"], range(6), **changes), [*base, *arm])


def holds(condition: str, analysis: Analysis, margin: float | None = 0.005) -> bool:
    return any(check.failed for check in run_checks(analysis, [condition], margin))


@pytest.mark.parametrize(
    ("difference", "conditions"),
    [
        (+0.020, {"not-equivalent"}),
        (+0.002, {"not-better"}),
        (0.0, {"not-better"}),
        (-0.002, {"not-better"}),
        (-0.0045, {"maybe-worse", "not-better", "not-equivalent"}),
        (-0.020, {"worse", "maybe-worse", "not-better", "not-equivalent"}),
    ],
)
def test_conditions_by_where_the_interval_lies(difference: float, conditions: set[str]) -> None:
    analysis = apart_by(difference)
    asked = set(CONDITIONS) - {"undecided", "incomplete"}
    assert {condition for condition in asked if holds(condition, analysis)} == conditions


def test_the_help_names_every_condition() -> None:
    assert list(declared.CONDITIONS) == list(CONDITIONS)


def test_conditions_agree_with_the_ends_of_the_interval() -> None:
    for difference in (-0.0080, -0.0060, -0.0050, -0.0040, -0.0030, 0.0):
        analysis = apart_by(difference)
        e = analysis.comparisons[0].comparison.estimate
        assert holds("worse", analysis) == (e.high < -0.005)
        assert holds("maybe-worse", analysis) == (e.low <= -0.005)


def test_without_a_margin_worse_is_the_verdict_of_the_report() -> None:
    assert holds("worse", apart_by(-0.004), None)
    assert not holds("worse", apart_by(-0.0005), None)
    assert holds("maybe-worse", apart_by(-0.02), None)
    assert not holds("maybe-worse", apart_by(-0.004), None)


def test_where_lower_is_better_worse_is_up() -> None:
    loss = {"higher_is_better": False}
    assert holds("worse", apart_by(+0.02, **loss))
    assert not holds("worse", apart_by(-0.02, **loss))
    assert not holds("not-better", apart_by(-0.02, **loss))


@pytest.mark.parametrize("condition", sorted(CONDITIONS))
def test_what_cannot_be_tested_passes_no_gate(condition: str) -> None:
    assert holds(condition, apart_by(+0.02, seeds=1))


def test_incomplete_means_missing_or_failed() -> None:
    whole = apart_by(0.0)
    assert not holds("incomplete", whole)
    assert holds("incomplete", analyse(whole.spec, whole.rows[:-1]))
    assert holds("incomplete", analyse(whole.spec, [*whole.rows[:-1], failed("cutmix", 5)]))


def test_worse_is_adjusted_for_the_number_of_comparisons() -> None:
    """A difference that is significant alone is not, among ten; the negative control has one comparison."""
    alone = apart_by(-0.0014)
    many = [row for row in alone.rows]
    names = [f"other_{i}" for i in range(9)]
    for name in names:
        many += [invented(name, r.seed, metrics=dict(r.metrics)) for r in alone.rows if r.arm == "baseline"]
    family = analyse(question(["baseline", "cutmix", *names], range(6)), many)
    assert holds("worse", alone, 0.0)
    assert not holds("worse", family, 0.0)


def test_unknown_conditions_and_missing_margins_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"--fail-if: found wors .did you mean worse"):
        run_checks(apart_by(0.0), ["wors"], None)
    with pytest.raises(ConfigError, match="needs a margin above 0"):
        run_checks(apart_by(0.0, margin=0.0), ["maybe-worse"], None)


def test_junit_names_each_check_and_counts_the_failures() -> None:
    found = run_checks(apart_by(-0.02), ["worse", "not-better", "incomplete", "worse"], 0.005)
    suite = ElementTree.fromstring(format_junit("a study", found))
    cases = suite.findall("./testsuite/testcase")
    assert [case.get("classname") for case in cases] == ["a study.worse", "a study.not-better", "a study.incomplete"]
    assert suite.get("tests") == "3"
    assert suite.get("failures") == "2"
    assert [case.find("failure") is not None for case in cases] == [True, True, False]
    failure = cases[0].find("failure")
    assert failure is not None
    assert "−2.00 points" in (failure.get("message") or "")
