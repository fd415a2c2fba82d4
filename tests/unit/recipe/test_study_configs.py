"""A study that names the user's own configs: the plan keeps the folder, and every cell is composed with it."""

import os
from pathlib import Path

import pytest

from helpers.own_configs import forget_modules, written_lab
from helpers.studies import written
from paribus.cli.main import dispatch
from paribus.cli.study.common import with_configs
from paribus.core.errors import ConfigError
from paribus.recipe.arms import build_plan
from paribus.study import plan as plans
from paribus.study.load import load_study
from paribus.study.runner.cells import build_command
from paribus.study.spec import Study

ARMS = {"baseline": [], "tint": ["technique=tint"]}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget_modules(monkeypatch, "study_lab")
    written_lab(tmp_path, "study_lab")
    return tmp_path


def flags(study: Study) -> set[tuple[str, ...]]:
    """How the cells of a plan on disk are given configs."""
    plan = plans.require_plan(study)
    return {tuple(build_command(Path("runs"), cell)[5:7]) for cell in plan.cells}


def test_study_yaml_names_it_relative_to_its_folder(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = written(lab / "experiments" / "s", arms=ARMS, config_dir="../../my configs")
    made = build_plan(study)
    plans.freeze(study, made, [])
    assert plans.read_plan(study.plan_path) == made
    assert made.config_dir == "../../my configs"
    assert str(lab) not in study.plan_path.read_text(), "the plan is for every machine"
    assert flags(study) == {("--config-dir", str(lab / "my configs"))}
    monkeypatch.chdir("experiments")
    assert flags(load_study(Path("s"))) == {("--config-dir", str(lab / "my configs"))}
    assert {cell.title for cell in made.cells if cell.arm == "tint"} == {"smoke-tint-s0", "smoke-tint-s1"}


def test_the_command_names_it_once_and_the_plan_keeps_it(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = written(lab / "experiments" / "s", arms=ARMS)
    plan = ["study", "plan", "experiments/s", "--quiet"]
    assert dispatch(plan) == 2
    assert "arms.tint: technique=tint: there is no such technique" in capfd.readouterr().err
    assert dispatch([*plan, "--config-dir", "my configs"]) == 0
    first = study.plan_path.read_bytes()
    assert dispatch(plan) == 0
    assert study.plan_path.read_bytes() == first
    assert flags(study) == {("--config-dir", str(lab / "my configs"))}


def test_two_that_differ_are_refused_and_the_same_twice_is_not(lab: Path) -> None:
    study = written(lab / "s", arms=ARMS, config_dir="../my configs")
    assert with_configs(study, Path("my configs")) == study
    with pytest.raises(ConfigError, match=r"--config-dir other: .*study\.yaml says config_dir: \.\./my configs"):
        with_configs(study, Path("other"))


def test_a_folder_that_is_not_there_is_named(lab: Path) -> None:
    study = written(lab / "s", arms=ARMS, config_dir="nowhere")
    with pytest.raises(ConfigError, match=f"config_dir: found nowhere; there is no folder {lab}/s/nowhere"):
        build_plan(study)


def test_without_one_nothing_is_written_about_it(lab: Path) -> None:
    study = written(lab / "s")
    made = build_plan(study)
    plans.freeze(study, made, [])
    assert "config_dir" not in study.plan_path.read_text()
    command = build_command(Path("runs"), plans.require_plan(study).cells[0])
    assert command[4:6] == ["train", made.cells[0].overrides[0]]


def test_hydras_search_path_in_a_recipe_goes_on_working(lab: Path) -> None:
    search = f"hydra.searchpath=['file://{lab}/my configs']"
    study = written(lab / "s", arms=ARMS, recipe=["experiment=smoke", "steps=20ba", search])
    own = written(
        lab / "t", arms=ARMS, recipe=["experiment=smoke", "steps=20ba"], config_dir=os.path.relpath("my configs", "t")
    )
    assert build_plan(study).ids() == build_plan(own).ids()
