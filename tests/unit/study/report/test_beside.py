"""Secondary metrics in a report: what it says of them, what it draws, and that a report without them is as it was."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from helpers.measured import ASKED, measures_for
from helpers.reports import question, rows_for
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.measures import Measure
from paribus.study.report.build import build_report
from paribus.study.report.figures.beside import plot_panels, plot_secondary
from paribus.study.report.figures.style import style_context
from paribus.study.report.html import render_html, render_svgs
from paribus.study.report.markdown import format_markdown
from paribus.study.report.model import Section, Table
from paribus.study.report.publish import build_json, format_csv
from paribus.study.report.results_table import format_results_table
from paribus.study.rows import Row
from paribus.study.spec import PaperResult

LEVELS = {"baseline": 0.90, "cutmix": 0.92, "adamp": 0.9005}
ERRORS = {"baseline": 0.10, "cutmix": 0.05, "adamp": 0.10}
ROWS = rows_for(LEVELS, range(6))
MEASURES = measures_for(ROWS, ERRORS)
SAID = PaperResult(arm="cutmix", against="baseline", difference=-0.03, metric="val/ece", source="a second paper")
OWN = PaperResult(arm="cutmix", against="baseline", difference=0.022, source="a paper")


def study(rows: Sequence[Row] = ROWS, measures: Sequence[Measure] = MEASURES, **changes: Any) -> Analysis:
    words = {("cutmix", "baseline"): "CutMix, 400 steps"}
    asked = {"also": ASKED, "paper": (OWN, SAID), "setting": "ten images", "limits": "more than that.", "words": words}
    return analyse(question(LEVELS, range(6), **{**asked, **changes}), rows, measures)


@pytest.fixture(scope="module")
def found() -> Analysis:
    return study()


def section(a: Analysis, key: str) -> Section:
    return next(section for section in build_report(a).sections if section.key == key)


def column(table: Table, name: str) -> list[str]:
    return [row[table.head.index(name)] for row in table.rows]


def test_the_family_is_named(found: Analysis) -> None:
    (first, *_) = section(found, "secondary").notes
    assert "the verdict of this study is on val/acc1" in first
    assert "2 comparisons × 3 metrics = 6: p (difference) is adjusted by Holm's rule over these 6" in first
    assert "p (equivalence) over the 4 whose metric has a margin" in first


def test_each_metric_is_judged_in_its_own_direction_and_unit(found: Analysis) -> None:
    compared, values = section(found, "secondary").tables
    assert [row[:3] for row in compared.rows][:3] == [
        ("val/ece ↓", "cutmix", "better"),
        ("val/ece ↓", "adamp", "equivalent within the margin"),
        ("ood/auroc ↑", "cutmix", "undecided"),
    ]
    assert re.fullmatch(r"−\d\.\d\d points", column(compared, "difference")[0])
    assert re.fullmatch(r"[+−]0\.\d+", column(compared, "difference")[2])
    assert column(compared, "p (equivalence)")[2] == "–"
    assert column(values, "margin") == ["± 1 point", "–", "± 0.5"]
    assert column(values, "from") == ["measures", "measures", "measures"]
    assert column(values, "cutmix")[0].endswith(" %")


def test_the_verdicts_at_the_top_are_of_the_metric_that_decides(found: Analysis) -> None:
    alone = study(also=(), paper=(OWN,), measures=())
    assert build_report(found).verdicts == build_report(alone).verdicts
    assert repr(found.comparisons) == repr(alone.comparisons)  # from Python 3.13 on, == is false where there is NaN


def test_what_a_row_has_comes_before_a_measure() -> None:
    rows = [replace(row, metrics={**row.metrics, "ood/auroc": 0.5 + row.seed / 100}) for row in ROWS]
    a = study(rows, measures_for(rows, ERRORS))
    result = a.beside.find("ood/auroc")
    assert result.measured == 0
    assert result.arms["cutmix"].mean == pytest.approx(0.525)
    assert column(section(a, "secondary").tables[1], "from") == ["measures", "rows", "measures"]


def test_runs_without_a_value_are_told() -> None:
    a = study(measures=[one for one in MEASURES if one.cell != "cutmix/s2"])
    assert "Runs without a value: val/ece (1 missing), ood/auroc (1 missing)" in section(a, "secondary").notes[2]
    assert a.beside.results[0].comparisons[0].estimate.n == 5
    nothing = study(measures=())
    assert column(section(nothing, "secondary").tables[0], "verdict") == ["not testable"] * 6
    assert column(section(nothing, "secondary").tables[1], "from") == ["nowhere yet"] * 3


def test_measures_that_belong_to_no_row_are_told() -> None:
    others = [replace(one, row="0" * 16) if one.cell == "cutmix/s2" else one for one in MEASURES]
    weights = replace(MEASURES[0], evaluator="x", metrics={}, weights={"model": "y"}, versions={})
    told = "\n".join(build_report(study(measures=[*others, weights])).cautions)
    assert "Measured on other results than those of the row, and left out: cutmix/s2." in told
    assert "more than one set of weights, and left out: baseline/s0." in told
    newer = [*MEASURES[:-1], replace(MEASURES[-1], versions={"pillow": "14.0.0"})]
    assert "differing numerics or versions: pillow of many." in "\n".join(build_report(study(measures=newer)).cautions)


def test_claims_stand_together_with_setting_and_limits(found: Analysis) -> None:
    keys = [s.key for s in build_report(found).sections]
    assert "paper" not in keys
    claims = section(found, "claims")
    (table,) = claims.tables
    assert column(table, "claim") == ["CutMix, 400 steps: val/acc1", "CutMix, 400 steps: val/ece"]
    assert column(table, "the paper says") == ["+2.20 points", "−3.00 points"]
    assert column(table, "verdict") == ["better", "better"]
    assert "Setting here: ten images. What it cannot show: more than that." in claims.notes


def test_one_comparison_needs_no_column() -> None:
    a = study(pairs=(("cutmix", "baseline"),))
    table = section(a, "secondary").tables[0]
    assert (table.head[:2], table.caption) == (("metric", "verdict"), "cutmix against baseline")


def test_a_panel_for_each_metric_and_each_curve(found: Analysis) -> None:
    with style_context():
        plots = {plot.key: plot for plot in (*plot_secondary(found), *plot_panels(found))}
    wanted = [*section(found, "secondary").figures, *section(found, "panels").figures]
    assert wanted == [
        *("also val/ece", "also ood/auroc", "also weights/norm"),
        *("panel many: reliability", "panel many: occlusion"),
    ]
    assert [*plots] == wanted
    drawn = render_svgs([*plots.values()])
    svgs = {key: svg for key, ((_, svg),) in drawn.items()}
    assert "val/ece: difference to baseline, points (← better)" in svgs["also val/ece"]
    assert "ood/auroc: difference to baseline (better →)" in svgs["also ood/auroc"]
    assert "better" not in svgs["also weights/norm"]
    assert "side of the square (pixels)" in svgs["panel many: occlusion"]
    assert all(arm in svgs["panel many: reliability"] for arm in LEVELS)
    assert render_html(build_report(found), drawn).count("<figure") == len(wanted)


def test_readme_has_the_tables_and_not_the_curves(found: Analysis) -> None:
    text = format_markdown(build_report(found))
    assert "### Secondary metrics" in text
    assert "### Claims" in text
    assert "### Curves of the evaluators" not in text


def test_json_and_csv_carry_them(found: Analysis) -> None:
    plain = build_json(found, build_report(found))
    assert [one["asked"]["metric"] for one in plain["beside"]["results"]] == [one.metric for one in ASKED]
    assert plain["beside"]["results"][0]["comparisons"][0]["judgement"]["verdict"] == "better"
    assert plain["asked"]["also"][0]["higher_is_better"] is False
    table = list(csv.DictReader(io.StringIO(format_csv(found))))
    assert float(table[0]["val/ece"]) == MEASURES[0].metrics["val/ece"]


def test_without_them_nothing_says_so() -> None:
    plain = analyse(question(LEVELS, range(6), paper=(OWN,)), ROWS)
    report = build_report(plain)
    assert not {"secondary", "claims", "panels"} & {s.key for s in report.sections}
    written = build_json(plain, report)
    assert "beside" not in written
    assert "also" not in written["asked"]
    assert "metric" not in written["asked"]["paper"][0]
    assert not any(name == "Secondary metrics" for name, _ in report.facts)


def test_measures_alone_are_drawn_and_judge_nothing() -> None:
    a = analyse(question(LEVELS, range(6)), ROWS, MEASURES)
    keys = {s.key for s in build_report(a).sections}
    assert "panels" in keys
    assert "secondary" not in keys
    assert "beside" in build_json(a, build_report(a))


def test_the_readme_of_all_studies_has_a_second_table(found: Analysis) -> None:
    table = format_results_table([found])
    first, second = table.split("Secondary metrics, which decide nothing")
    assert "val/ece" not in first
    rows = [line for line in second.splitlines() if line.startswith("| ") and "experiments/invented" in line]
    assert len(rows) == 6
    assert re.search(r"\| CutMix, 400 steps +\| val/ece ↓ +\| −3.00: a second paper +\| +−5\.\d\d points \|", second)
    assert "of the other sign" not in second
    up = replace(SAID, difference=0.03)
    told = format_results_table([study(paper=(up,))])
    assert "Of these, of the other sign than in the paper: CutMix, 400 steps, val/ece (better)." in told
    assert "Secondary" not in format_results_table([analyse(question(LEVELS, range(6)), ROWS)])


def test_the_same_measures_in_any_order_make_the_same_report(found: Analysis) -> None:
    other = study(measures=MEASURES[::-1])
    assert build_json(other, build_report(other)) == build_json(found, build_report(found))
