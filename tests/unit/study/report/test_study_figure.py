"""The figure beside a study's README: each difference where it is, and along something as a curve."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers.reports import invented, question, rows_for
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.report.build import build_report
from paribus.study.report.markdown import FIGURE, build_readme
from paribus.study.report.publish import publish
from paribus.study.report.study_figure import draw_study_figure
from paribus.study.spec import Along
from paribus.study.stats import SequentialPlan


def compared(**changes: object) -> Analysis:
    rows = rows_for({"a": 0.8, "b": 0.9, "c": 0.7}, range(6))
    return analyse(question(["a", "b", "c"], range(6), **changes), rows)


def list_dots(a: Analysis) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(draw_study_figure(a))
    return [(float(e.get("cx", "nan")), float(e.get("cy", "nan"))) for e in root.iter() if e.tag.endswith("circle")]


def test_a_dot_for_each_comparison_the_better_one_to_the_right() -> None:
    better, worse = list_dots(compared())
    assert better[0] > worse[0]
    assert better[1] < worse[1], "in the order of the study"
    text = draw_study_figure(compared(words={("b", "a"): "B & friends"}))
    assert "B &amp; friends" in text
    assert "prefers-color-scheme: dark" in text
    assert "difference in val/acc1, points (better →)" in text


def test_for_a_metric_that_should_fall_the_axis_says_so() -> None:
    assert "← better" in draw_study_figure(compared(metric="val/loss", higher_is_better=False))


def along(scale: str) -> Analysis:
    places = {(f"with_{x}", f"plain_{x}"): ("every batch", float(x)) for x in (10, 20, 400)}
    arms = {arm: 0.7 for pair in places for arm in pair} | {"with_10": 0.6, "with_400": 0.8}
    rows = [invented(arm, seed, level) for arm, level in arms.items() for seed in range(4)]
    spec = question(arms, range(4), pairs=tuple(places), along=Along(name="epochs", scale=scale), places=places)  # pyright: ignore[reportArgumentType]
    return analyse(spec, rows)


@pytest.mark.parametrize(("scale", "share"), [("linear", 10 / 390), ("log", 0.1879), ("even", 0.5)])
def test_along_something_each_difference_stands_again_where_it_belongs(scale: str, share: float) -> None:
    dots = list_dots(along(scale))
    assert len(dots) == 6
    (x1, y1), (x2, y2), (x3, y3) = dots[3:]
    assert (x2 - x1) / (x3 - x1) == pytest.approx(share, abs=2e-3)
    assert y1 > y2 > y3, "better is up"
    assert "the same along epochs" in draw_study_figure(along(scale))


def test_the_wide_interval_of_an_early_look_is_cut_off() -> None:
    looks = SequentialPlan(first=3, more=1, most=40)
    a = analyse(question(["a", "b"], range(40), sequential=looks), rows_for({"a": 0.8, "b": 0.801}, range(3)))
    (estimate,) = (x.comparison.estimate for x in a.comparisons)
    reach = 3 * max(0.01, abs(estimate.mean))
    assert estimate.high > 2 * reach, "or this shows nothing"
    root = ElementTree.fromstring(draw_study_figure(a))
    texts = [e.text for e in root.iter() if e.tag.endswith("text") and e.text]
    ticks = [float(text.replace("−", "-")) for text in texts if text.strip("+−0123456789.") == ""]
    assert max(ticks) <= 100 * reach * 1.1


def test_the_readme_shows_it_where_there_is_one(tmp_path: Path) -> None:
    a = compared()
    publish(tmp_path, a, build_report(a))
    assert (tmp_path / FIGURE).read_text() == draw_study_figure(a)
    assert f"]({FIGURE})" in (tmp_path / "README.md").read_text()
    nothing = replace(a, comparisons=())
    assert draw_study_figure(nothing) == ""
    assert FIGURE not in build_readme(build_report(nothing), None, tmp_path / "README.md")
