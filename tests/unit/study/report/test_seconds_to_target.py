"""Time to a target in seconds: an arm that arrives after as many steps may arrive later, as its steps take longer."""

from dataclasses import replace
from typing import Any

import pytest

from helpers.reports import STEPS, invented, question
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.report.build import build_report, choose_report_unit
from paribus.study.report.figures.curves import build_plots
from paribus.study.report.figures.over_time import place_in_seconds
from paribus.study.report.model import Section

PACE = {"baseline": 0.5, "cutmix": 0.7}  # seconds a step
CURVE = [[step, 0.5 + 0.4 * step / STEPS] for step in range(STEPS // 4, STEPS + 1, STEPS // 4)]


def study(**changes: Any) -> Analysis:
    """Every run learns alike; a seed's machine is slower by a hundredth than that of the one before. changes: of the
    last row."""
    rows = []
    for seed in range(6):
        for arm, pace in PACE.items():
            row = invented(arm, seed)
            cost = {**row.cost, "train_s": pace * STEPS * (1 + seed / 100)}
            rows.append(replace(row, curves={**row.curves, "val/acc1": CURVE}, cost=cost))
    return analyse(question(PACE, range(6), targets=(0.75,)), [*rows[:-1], replace(rows[-1], **changes)])


def said(analysis: Analysis) -> Section:
    return next(section for section in build_report(analysis).sections if section.key == "targets")


def test_seconds_are_steps_times_a_runs_own_pace() -> None:
    analysis = study()
    (steps,), (seconds,) = analysis.targets, analysis.target_seconds
    arrived = 3 * STEPS // 4  # 0.8
    assert {arm.median for arm in steps.arms.values()} == {arrived}
    assert (steps.comparisons[0].tied, seconds.comparisons[0].later) == (6, 6)
    # Kaplan-Meier's median of six is the third
    for arm, pace in PACE.items():
        assert seconds.arms[arm].median == pytest.approx(arrived * pace * 1.02)
    found = seconds.comparisons[0].comparison
    assert found.estimate.mean == pytest.approx(arrived * 0.2 * 1.025)
    assert str(found.judgement.verdict) == "worse"
    assert str(steps.comparisons[0].comparison.judgement.verdict) != "worse"


def test_a_report_tells_both_and_draws_the_curve_over_seconds() -> None:
    analysis = study()
    section = said(analysis)
    assert [table.caption for table in section.tables[::2]] == [
        "Until val/acc1 of 75 %, in steps; every finished run arrived",
        "Until val/acc1 of 75 %, in seconds; every finished run arrived",
    ]
    assert section.tables[3].rows[0][1] == "later"
    assert section.figures[-1] == "over seconds"
    plots = {plot.key for plot in build_plots(analysis, choose_report_unit(analysis))}
    assert set(section.figures) <= plots
    # the median of six runs' paces lies between the third and the fourth
    for arm, band in place_in_seconds(analysis).items():
        assert band.steps == pytest.approx([step * PACE[arm] * 1.025 for step, _ in CURVE])


@pytest.mark.parametrize(
    "changes", [{"hardware": {"cpu": "another", "cores": 2, "gpu": None}}, {"cost": {}}, {"cost": {"train_s": 0.0}}]
)
def test_seconds_of_several_machines_or_of_none_are_not_told(changes: dict[str, Any]) -> None:
    analysis = study(**changes)
    assert analysis.target_seconds == ()
    assert analysis.step_seconds is None
    section = said(analysis)
    assert len(section.tables) == 2
    assert "over seconds" not in section.figures
    assert any(note.startswith("Not in seconds") for note in section.notes)
    assert "over seconds" not in {plot.key for plot in build_plots(analysis, choose_report_unit(analysis))}
