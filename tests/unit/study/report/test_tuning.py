"""What a report says about tuning: from rows that are made up so that the right answer is known."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import row, written
from paribus.cli.main import dispatch
from paribus.study import plan as plans
from paribus.study import rows, tuned
from paribus.study.analysis.question import build_analysis_spec
from paribus.study.analysis.tuning import TuningAnalysis
from paribus.study.plan import Cell
from paribus.study.report.sections_tuning import pick_counts
from paribus.study.spec import Study

PEAK = {"adamw": 0.02, "adamp": 10.0}  # AdamP's lies beyond the space
TUNE: dict[str, Any] = {
    "space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}},
    "arms": {"adamp": {"optimizer.delta": {"choices": [0.0, 0.1, 0.3]}}},
    "trials": 6,
    "seeds": 3,
}


def value(cell: Cell) -> float:
    """Highest where the rate is at the arm's peak."""
    own = dict(override.split("=", 1) for override in cell.overrides)
    arm, rate = cell.arm.partition(".")[0], float(own.get("optimizer.lr", "0.01"))
    noise = random.Random(cell.name).gauss(0, 0.001)
    return round(0.6 - 0.02 * (math.log10(rate / PEAK[arm])) ** 2 + noise, 4)


def fill(study: Study, failing: str = "") -> None:
    """A row for each cell of a plan. failing: an arm of which two seeds of three fail."""
    plan = plans.require_plan(study)
    made = []
    for cell in plan.cells:
        v = value(cell)
        if cell.arm == failing and cell.seed % 3:
            made.append(row(cell, state="failed", metrics={}, curves={}, cost={}, why="the loss is not finite"))
        else:
            made.append(row(cell, v, metrics={study.spec.metric: v}, curves={study.spec.metric: [[20, v]]}))
    rows.update_rows(study, made, plan.ids())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("reported") / "study"
    made = written(
        folder,
        recipe=["experiment=smoke", "steps=20ba", "data.minival=64"],
        arms={"adamw": [], "adamp": ["technique=adamp"]},
        seeds=4,
        settings=None,
        tune=TUNE,
        threads=2,
    )
    assert dispatch(["study", "plan", str(folder), "--quiet"]) == 0
    fill(tuned.open_stage(made), failing="adamp.t02")
    assert dispatch(["study", "plan", str(folder), "--quiet", "--count-failed"]) == 0
    fill(made)
    assert dispatch(["study", "report", str(folder)]) == 0
    return made


@pytest.fixture(scope="module")
def tuning(study: Study) -> TuningAnalysis:
    found = build_analysis_spec(study).tuning
    assert found is not None
    return found


def test_the_choice_is_the_highest_median_and_the_gap_is_to_the_default(tuning: TuningAnalysis) -> None:
    for arm in tuning.arms.values():
        medians = {t.name: t.median for t in arm.trials if math.isfinite(t.median)}
        assert arm.chosen.trial == max(medians, key=lambda name: medians[name])
        assert arm.chosen.value == max(medians.values())
        assert arm.default == medians["default"]
        assert arm.gap == arm.chosen.value - arm.default >= 0
        for trial in arm.trials:
            assert trial.name == "t02" or trial.median == sorted(trial.values)[1]


def test_the_default_has_the_values_of_its_recipe(tuning: TuningAnalysis) -> None:
    assert tuning.arms["adamw"].trials[0].settings == {"optimizer.lr": 0.01}
    assert tuning.arms["adamp"].trials[0].settings == {"optimizer.lr": 0.01, "optimizer.delta": 0.1}


def test_an_edge_is_told_where_the_peak_lies_beyond_it_alone(tuning: TuningAnalysis) -> None:
    assert tuning.arms["adamw"].edges == ()
    assert [(edge.key, edge.end) for edge in tuning.arms["adamp"].edges] == [("optimizer.lr", "largest")]
    largest = max(float(str(t.settings["optimizer.lr"])) for t in tuning.arms["adamp"].trials)
    chosen = next(t for t in tuning.arms["adamp"].trials if t.name == tuning.arms["adamp"].chosen.trial)
    assert chosen.settings["optimizer.lr"] == largest


def test_costs_are_core_minutes_of_the_arms_own_runs(tuning: TuningAnalysis) -> None:
    """Made-up rows took 7 + 1 s, on 2 threads; of two failed ones no time is on record."""
    assert tuning.arms["adamw"].minutes == pytest.approx(21 * 8 * 2 / 60)
    assert (tuning.arms["adamp"].minutes, tuning.arms["adamp"].unknown) == (pytest.approx(19 * 8 * 2 / 60), 2)


def test_the_expected_best_leaves_the_default_out_and_counts_a_failed_trial_as_the_worst(
    tuning: TuningAnalysis,
) -> None:
    adamw, adamp = tuning.arms["adamw"], tuning.arms["adamp"]
    assert adamw.attempts[0] == pytest.approx(sum(t.median for t in adamw.trials[1:]) / 6)
    assert adamw.attempts[-1] == max(t.median for t in adamw.trials[1:])
    assert list(adamw.attempts) == sorted(adamw.attempts)
    known = [t.median for t in adamp.trials[1:] if t.name != "t02"]
    assert adamp.attempts[0] == pytest.approx((sum(known) + min(known)) / 6)


def test_the_report_says_all_of_it(study: Study) -> None:
    text = (study.folder / "README.md").read_text()
    section = text.partition("### Tuning\n")[2].partition("\n### ")[0]
    assert "tuned − default (points)" in section
    assert "never the worse, so optimistic" in section
    failed = "adamp.t02/s100 (the loss is not finite), adamp.t02/s101 (the loss is not finite)."
    assert f"Failed, and counted as the worst value there is: {failed}" in section
    assert section.count("At the edge: ") == 1
    assert "At the edge: the best optimizer.lr of adamp (0.0854) is the largest tried, or nearly; a wider" in section
    assert "| 2 of 21 |" in " ".join(section.split())
    assert "Expected best median minival/acc1 (%) of so many trials" in section
    assert "Tuned: adamw: optimizer.lr=" in text
    assert "Settings: tuned: with equal budgets: 6 trials × 3 seeds for each arm on minival" in text
    page = (study.folder / "report.html").read_text()
    for title in ("minival/acc1 against optimizer.lr", "minival/acc1 against optimizer.delta", "Expected best median"):
        assert f'aria-label="{title}' in page
    assert "Every setting that was tried" in page
    assert "Every setting that was tried" not in text, "only the page has every trial"


def test_what_each_arm_sets_has_the_chosen_settings(study: Study) -> None:
    found = json.loads((study.folder / "report.json").read_text())
    chosen = tuned.find_chosen(study)
    assert chosen is not None
    for arm, one in chosen.arms.items():
        assert set(one.overrides) <= set(found["asked"]["arms"][arm])
    assert found["tuning"]["arms"]["adamp"]["trials"][2]["median"] is None
    assert "tuning" not in found["asked"]


def test_a_report_of_a_study_that_does_not_tune_has_nothing_of_it(tmp_path: Path) -> None:
    made = written(
        tmp_path / "study", recipe=["experiment=smoke", "steps=20ba"], arms={"adamw": [], "adamp": ["technique=adamp"]}
    )
    assert dispatch(["study", "plan", str(made.folder), "--quiet"]) == 0
    fill(made)
    assert dispatch(["study", "report", str(made.folder)]) == 0
    assert "tuning" not in json.loads((made.folder / "report.json").read_text())
    assert "Tuning" not in (made.folder / "README.md").read_text()


def test_the_numbers_of_trials_that_a_table_shows() -> None:
    assert pick_counts(12) == [1, 2, 4, 8, 12]
    assert pick_counts(8) == [1, 2, 4, 8]
    assert pick_counts(1) == [1]
