"""What evaluators measure with stands in no id: a plan has it, and rows of two protocols are not put together."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import row, written
from paribus.core.errors import ConfigError
from paribus.recipe.arms import build_plan
from paribus.recipe.tuning_plan import build_tuning_plan
from paribus.study import plan as plans
from paribus.study.load import load_study
from paribus.study.protocols import check_planned_protocol
from paribus.study.rows import read_rows, update_rows
from paribus.study.spec import Study

ROOT = Path(__file__).parents[3]
RECIPE = ["experiment=smoke", "data.minival=32", "steps=4ba", "every.evaluate=2ba"]
ECE = {"metric": "val/ece", "higher_is_better": False, "smallest_effect": 0.1}
CALIBRATION = "evaluators=[accuracy,calibration]"


def judged(folder: Path, *overrides: str, **changes: Any) -> Study:
    """A study of calibration error."""
    return written(folder, recipe=[*RECIPE, CALIBRATION, *overrides], **{**ECE, **changes})


def planned(study: Study) -> plans.Plan:
    made = build_plan(study)
    plans.freeze(study, made, read_rows(study.results_path))
    return made


def test_a_plan_has_the_settings_of_what_judges(tmp_path: Path) -> None:
    made = planned(judged(tmp_path, "evaluators.calibration.bins=5"))
    assert {arm: one["calibration"]["bins"] for arm, one in made.protocols.items()} == {"baseline": 5, "cutmix": 5}
    assert "batch_size" not in made.protocols["baseline"]["calibration"], "which changes no number"
    known = plans.require_plan(load_study(tmp_path))
    assert known == made
    assert build_plan(written(tmp_path / "other", recipe=[*RECIPE, CALIBRATION])).protocols == {}, "acc1 is in the id"


def test_another_protocol_is_refused_once_there_are_rows(tmp_path: Path) -> None:
    made = planned(judged(tmp_path))
    planned(judged(tmp_path, "evaluators.calibration.bins=10"))
    study = judged(tmp_path)
    planned(study)  # without rows it may be changed and put back
    update_rows(study, [row(made.cells[0], metrics={"val/ece": 0.1})], made.ids())
    with pytest.raises(ConfigError, match="rows of baseline were measured with bins=15, and this is bins=10"):
        planned(judged(tmp_path, "evaluators.calibration.bins=10"))
    planned(judged(tmp_path, "evaluators.calibration.batch_size=7"))


def test_a_plan_from_before_is_held_to_its_overrides_and_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "adamp_adversarial"
    shutil.copytree(ROOT / "experiments" / "adamp_adversarial", folder)
    study = load_study(folder)
    before = study.plan_path.read_bytes()
    assert plans.require_plan(study).protocols == {}
    planned(study)
    assert study.plan_path.read_bytes() == before
    text = (folder / "study.yaml").read_text()
    assert "evaluators.attack.limit=2000" in text
    (folder / "study.yaml").write_text(text.replace("evaluators.attack.limit=2000", "evaluators.attack.limit=500"))
    with pytest.raises(ConfigError, match=r"evaluators\.attack: rows of adamw were measured with .*limit=2000"):
        planned(load_study(folder))


def test_measuring_with_other_settings_than_the_runs_is_refused(tmp_path: Path) -> None:
    made = planned(judged(tmp_path))
    config = dict(made.protocols["baseline"]["calibration"])
    check_planned_protocol(made.protocols, "calibration", {**config, "batch_size": 3})
    check_planned_protocol(made.protocols, "ood", {"split": "val"})
    with pytest.raises(ConfigError, match="runs of baseline measure with bins=15, and this is bins=5"):
        check_planned_protocol(made.protocols, "calibration", {**config, "bins": 5})


TUNE = {"space": {"optimizer.lr": {"choices": [0.01, 0.02]}}, "trials": 2, "seeds": [10]}


def test_a_metric_without_a_split_in_its_name_is_tuned_on_the_images_held_out(tmp_path: Path) -> None:
    tune = {**TUNE, "metric": "ood/auroc", "higher_is_better": True}
    study = written(tmp_path, recipe=[*RECIPE, "evaluators=[accuracy,ood]"], settings=None, tune=tune)
    made = build_tuning_plan(study)
    assert all("evaluators.ood.split=minival" in cell.overrides for cell in made.cells)
    assert all("evaluators.accuracy=null" in cell.overrides for cell in made.cells)


def test_without_images_held_out_there_is_nothing_to_tune_on(tmp_path: Path) -> None:
    tune = {**TUNE, "metric": "ood/auroc", "higher_is_better": True}
    recipe = ["experiment=smoke", "steps=4ba", "evaluators=[accuracy,ood]"]
    with pytest.raises(ConfigError, match=r"found ood/auroc, but data\.minival is 0"):
        build_tuning_plan(written(tmp_path, recipe=recipe, settings=None, tune=tune))


def test_tuning_does_not_read_what_the_study_is_judged_on(tmp_path: Path) -> None:
    tune = {**TUNE, "metric": "val/acc1", "higher_is_better": True}
    recipe = [*RECIPE, "evaluators=[accuracy,ood]"]
    by_auroc = {"metric": "ood/auroc", "higher_is_better": True, "smallest_effect": 0.1}
    study = written(tmp_path, recipe=recipe, settings=None, tune=tune, **by_auroc)
    with pytest.raises(ConfigError, match=r"evaluators\.accuracy reads val for it, and the study is judged on val"):
        build_tuning_plan(study)
