"""Comparisons along something: the curve, the losses beside it, and what study.yaml may say of it."""

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from helpers.reports import invented, question
from helpers.studies import written
from paribus.core.errors import ConfigError
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.analysis.question import build_analysis_spec
from paribus.study.load import load_study
from paribus.study.report.build import build_report, choose_report_unit
from paribus.study.report.figures.along import list_differences, list_losses
from paribus.study.report.figures.curves import build_plots
from paribus.study.report.html import render_svgs
from paribus.study.report.markdown import format_markdown
from paribus.study.spec import Along

GAINS = {10: -0.03, 50: -0.01, 200: 0.02}


def analysed(lines: tuple[str, ...] = ("every batch", "half"), losses: bool = True, **changes: Any) -> Analysis:
    arms: dict[str, float] = {}
    places: dict[tuple[str, str], tuple[str, float]] = {}
    for epochs, gain in reversed(GAINS.items()):  # study.yaml may have them in any order
        arms[f"plain_{epochs}"] = 0.7
        for i, line in enumerate(lines):
            arm = f"cutmix{i}_{epochs}"
            arms[arm] = 0.7 + gain / (i + 1)
            places[arm, f"plain_{epochs}"] = (line, float(epochs))
    rows = [invented(arm, seed, level) for arm, level in arms.items() for seed in range(4)]
    if losses:
        added = {"train/unmixed_loss": 0.5}
        rows = [replace(row, metrics={**row.metrics, **added}) for row in rows]
    along = {"along": Along(name="epochs", scale="log"), "places": places}
    return analyse(question(arms, range(4), pairs=tuple(places), **(along | changes)), rows)


def test_points_are_in_order_and_are_those_of_the_comparisons() -> None:
    a = analysed()
    found = list_differences(a)
    assert [line.name for line in found] == ["every batch", "half"]
    assert [[p.x for p in line.points] for line in found] == [[10, 50, 200]] * 2
    by_pair = {(c.comparison.arm, c.comparison.baseline): c.comparison.estimate for c in a.comparisons}
    for i, line in enumerate(found):
        for p in line.points:
            e = by_pair[f"cutmix{i}_{p.x:g}", f"plain_{p.x:g}"]
            assert (p.mean, p.low, p.high) == (e.mean, e.low, e.high)


def test_losses_are_those_of_both_arms() -> None:
    a = analysed(lines=("",))
    assert [(line.name, line.quiet, [p.mean for p in line.points]) for line in list_losses(a)] == [
        ("with", False, [0.5] * 3),
        ("without", True, [0.5] * 3),
    ]
    assert list_losses(analysed(losses=False)) == []
    shared = list_losses(analysed())  # two lines with the same baselines have one in common
    assert [line.name for line in shared] == ["every batch", "half", "without"]


@pytest.mark.parametrize("places", [(0.0, 0.5), (0.0,), (5.0,)])
def test_lines_with_baselines_of_their_own_each_show_them(places: tuple[float, ...]) -> None:
    """AdamP against AdamW beside SGDP against SGD: one line of baselines would have shown the last of each place."""
    losses = {"adamw": 0.4, "adamp": 0.3, "sgd": 1.4, "sgdp": 1.3}
    pairs = {
        (f"{arm}_{x}", f"{other}_{x}"): (line, x)
        for line, arm, other in (("Adam", "adamp", "adamw"), ("SGD", "sgdp", "sgd"))
        for x in (places if line == "SGD" else (0.0, 0.5))
    }
    arms = dict.fromkeys(name for pair in pairs for name in pair)
    rows = [invented(arm, seed, 0.7) for arm in arms for seed in range(3)]
    rows = [replace(r, metrics={**r.metrics, "train/unmixed_loss": losses[r.arm.partition("_")[0]]}) for r in rows]
    spec = question(arms, range(3), pairs=tuple(pairs), along=Along(name="decay", scale="even"), places=pairs)
    found = {line.name: [(p.x, p.mean) for p in line.points] for line in list_losses(analyse(spec, rows)) if line.quiet}
    assert found == {
        "without Adam": [(0.0, pytest.approx(0.4)), (0.5, pytest.approx(0.4))],
        "without SGD": [(x, pytest.approx(1.4)) for x in places],
    }


def test_the_report_has_a_table_and_both_figures() -> None:
    a = analysed()
    report, unit = build_report(a), choose_report_unit(a)
    (section,) = [s for s in report.sections if s.key == "along"]
    assert [row[:2] for row in section.tables[0].rows] == [
        (line, str(epochs)) for line in ("every batch", "half") for epochs in GAINS
    ]
    assert "Along epochs" in format_markdown(report)
    drawn = render_svgs(build_plots(a, unit))
    assert {"along", "along losses"} <= drawn.keys()
    ((_, svg),) = drawn["along"]
    for text in (">every batch<", ">10<", ">200<", "at 200"):
        assert text in svg


def test_one_line_without_a_name_has_no_column_and_no_losses_no_numbers() -> None:
    (section,) = [s for s in build_report(analysed(lines=("",), losses=False)).sections if s.key == "along"]
    (table,) = section.tables
    assert table.head[0] == "epochs"
    assert table.rows[0][-2:] == ("–", "–")
    without = analysed(losses=False)
    assert "along losses" not in {plot.key for plot in build_plots(without, choose_report_unit(without))}


@pytest.mark.parametrize("scale", ["linear", "even"])
def test_other_axes_have_the_same_values(scale: Literal["linear", "even"]) -> None:
    a = analysed(along=Along(name="weight decay", scale=scale))
    ((_, svg),) = render_svgs(build_plots(a, choose_report_unit(a)))["along"]
    assert all(f">{value}<" in svg for value in (10, 50, 200))
    ticks = [float(x) for x in re.findall(r'<text [^>]*x="([\d.]+)"[^>]*>(?:10|50|200)<', svg)]
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert gaps[1] / gaps[0] == pytest.approx(1.0 if scale == "even" else 150 / 40, rel=0.01)


def test_places_without_runs_are_left_out() -> None:
    a = analysed()
    kept = [row for row in a.rows if not row.arm.endswith("_200")]
    assert [[p.x for p in line.points] for line in list_differences(analyse(a.spec, kept))] == [[10, 50]] * 2
    assert list_differences(analyse(a.spec, [])) == []
    assert not [p for p in build_plots(analyse(a.spec, []), choose_report_unit(a)) if p.key.startswith("along")]


def test_a_study_that_names_nothing_has_none_of_it() -> None:
    a = analysed(along=None, places={})
    assert "along" not in {s.key for s in build_report(a).sections}
    assert not [p for p in build_plots(a, choose_report_unit(a)) if p.key.startswith("along")]


def test_one_seed_has_a_point_without_an_interval() -> None:
    a = analysed()
    one = analyse(a.spec, [row for row in a.rows if row.seed == 0])
    assert all(math.isnan(p.low) for line in list_differences(one) for p in line.points)
    assert "along" in render_svgs(build_plots(one, choose_report_unit(one)))


ARMS = {"plain": [], "cutmix": ["technique=cutmix"], "mixup": ["technique=mixup"]}
TWO: list[dict[str, Any]] = [
    {"arm": "cutmix", "against": "plain", "at": 10},
    {"arm": "mixup", "against": "plain", "at": 50},
]


def test_study_yaml_says_it(tmp_path: Path) -> None:
    study = written(tmp_path / "s", arms=ARMS, comparisons=TWO, along={"name": "epochs", "scale": "log"})
    spec = build_analysis_spec(study)
    assert spec.along == Along(name="epochs", scale="log")
    assert spec.places == {("cutmix", "plain"): ("", 10.0), ("mixup", "plain"): ("", 50.0)}


@pytest.mark.parametrize(
    ("comparisons", "along", "said"),
    [
        (TWO, None, r"comparisons.0.at: found 10; say along"),
        (TWO[:1], {"name": "epochs"}, "along: comparisons stand at 1 places; a curve needs two"),
        (
            [TWO[0], {**TWO[1], "at": 0}],
            {"name": "decay", "scale": "log"},
            "comparisons.1.at: found 0; on a logarithmic",
        ),
        ([TWO[0], {**TWO[1], "at": float("nan")}], {"name": "decay"}, "should be a finite number"),
        ([{"arm": "mixup", "against": "plain", "line": "x"}], None, "comparisons.0.line: found 'x' without at"),
        (
            [TWO[0], {**TWO[1], "at": 10}, {"arm": "mixup", "against": "cutmix", "at": 9}],
            {"name": "e"},
            "two are at 10",
        ),
        (TWO, {"name": "TODO"}, "along.name: found 'TODO'"),
        (TWO, "epochs", "along"),
    ],
)
def test_mistakes_are_told_by_their_key(comparisons: Any, along: Any, said: str, tmp_path: Path) -> None:
    more = {"along": along} if along is not None else {}
    with pytest.raises(ConfigError, match=said):
        load_study(written(tmp_path / "s", arms=ARMS, comparisons=comparisons, **more).folder)
