"""From arms to cells: what only composing can tell, for every shipped study and for every way to get one wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest

from helpers.studies import made_up_plan, row, written
from helpers.trainings import build_recipe, composed
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError
from paribus.recipe.arms import build_plan
from paribus.study import plan as plans
from paribus.study import rows
from paribus.study.load import load_study
from paribus.study.stats import seeds_to_decide
from paribus.study.tuned import apply_chosen, find_chosen

ROOT = Path(__file__).parents[3]
SHIPPED = sorted(path.parent for path in (ROOT / "experiments").glob("*/study.yaml"))


@pytest.mark.parametrize("folder", SHIPPED, ids=[folder.name for folder in SHIPPED])
def test_a_shipped_study_can_be_planned_and_is_what_its_rows_were_recorded_of(folder: Path, tmp_path: Path) -> None:
    study = load_study(folder)
    chosen = find_chosen(study)
    made = build_plan(study) if chosen is None else replace(build_plan(apply_chosen(study, chosen)), tuned=chosen)
    plans.check_cells(made)
    plans.check_rows(study, made, plans.read_plan(study.plan_path), rows.read_rows(study.results_path))
    if study.results_path.exists():
        before = study.plan_path.read_bytes()
        shutil.copytree(folder, tmp_path / folder.name)
        copied = load_study(tmp_path / folder.name)
        if chosen is not None:
            copied = apply_chosen(copied, chosen)
        assert plans.freeze(copied, made, rows.read_rows(copied.results_path)) == ()
        assert copied.plan_path.read_bytes() == before, "a plan of schema 1 stays as it is"


def test_there_is_a_shipped_study() -> None:
    assert "quickstart" in [folder.name for folder in SHIPPED]


def test_a_cell_is_what_train_would_make_of_its_overrides(tmp_path: Path) -> None:
    study = written(tmp_path / "study", arms={"baseline": [], "both": ["technique=[cutmix,adamp]"]}, seeds=[0, 7])
    made = build_plan(study)
    assert [cell.name for cell in made.cells] == ["baseline/s0", "baseline/s7", "both/s0", "both/s7"]
    for cell in made.cells:
        asked = ["cutmix", "adamp"] if cell.arm == "both" else []
        recipe = build_recipe(composed(*cell.overrides), asked)
        assert (recipe.id, recipe.folder.name, recipe.title) == (cell.id, cell.folder, cell.title)
        assert (recipe.seed, recipe.runtime.threads) == (cell.seed, 1)
        assert list(recipe.tracker) == ["events"]
        assert {k: v for k, v in recipe.computed.items() if k != "seed"} == made.recipes[cell.arm]
    plans.freeze(study, made, [])
    assert plans.read_plan(study.plan_path) == made


def test_a_seed_that_other_keys_follow_is_followed(tmp_path: Path) -> None:
    study = written(tmp_path, recipe=["experiment=smoke", "steps=${seed}ba"], seeds=[3, 4])
    steps = [build_recipe(composed(*cell.overrides), []).steps for cell in build_plan(study).cells[:2]]
    assert steps == ["3ba", "4ba"]
    ids = [build_recipe(composed(*cell.overrides), []).id for cell in build_plan(study).cells[:2]]
    assert ids == [cell.id for cell in build_plan(study).cells[:2]]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"metric": "val/acc2"}, "arms.baseline: metric: found val/acc2 (did you mean val/acc"),
    ({"metric": "minival/acc1"}, "the evaluators measure val/acc1, val/acc5, val/loss"),
    (
        {"recipe": ["experiment=smok"]},
        "arms.baseline: experiment=smok: there is no such experiment (did you mean smoke",
    ),
    ({"arms": {"a": [], "b": ["technique=pit"]}}, "arms.b: technique=pit does not fit this recipe"),
    ({"arms": {"a": [], "b": ["optimizer.lrr=1"]}}, "arms.b: optimizer.lrr: no such key (did you mean optimizer.lr"),
    ({"arms": {"a": [], "b": ["optimizer.lr=-1"]}}, "arms.b: optimizer.lr: found -1"),
    ({"arms": {"a": [], "b": ["steps=${nowhere}"]}}, "arms.b: steps: Interpolation key 'nowhere' not found"),
    ({"arms": {"a": [], "b": ["name=other"]}}, "arms.b: computes the same as arm a"),
]


@pytest.mark.parametrize(("changes", "told"), MISTAKES, ids=[told[:40] for _, told in MISTAKES])
def test_a_mistake_in_any_arm_is_found_before_anything_is_written(
    changes: dict[str, Any], told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "study", **changes)
    assert dispatch(["study", "plan", str(tmp_path / "study")]) == 2
    err = capfd.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["study.yaml"]


def test_plan_says_what_would_run_and_for_how_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path / "study", seeds=3)
    assert dispatch(["study", "plan", str(study.folder), "--runs", str(tmp_path / "runs"), "--workers", "2"]) == 0
    out = capsys.readouterr().out
    assert "study: Is it any good?" in out
    assert "6 to run: duration unknown, no run to estimate it from" in out
    cell = plans.require_plan(study).cells[0]
    rows.update_rows(study, [row(cell)], {})
    assert dispatch(["study", "plan", str(study.folder), "--runs", str(tmp_path / "runs"), "--workers", "2"]) == 0
    out = capsys.readouterr().out
    assert "baseline      3     1        0       0        2" in out
    assert "5 to run: about 0:32 with 2 at a time" in out  # of 7 + 1 + 5 s each


def test_power_proposes_seeds_from_what_was_measured(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path / "study", seeds=3)
    command = ["study", "plan", str(study.folder), "--power"]
    assert dispatch(command) == 2
    assert "cutmix against baseline has 0 recorded seeds; the spread needs at least 2" in capfd.readouterr().err
    made = plans.require_plan(study)
    values = {"baseline": [0.5, 0.51, 0.52], "cutmix": [0.51, 0.54, 0.55]}  # differences 0.01, 0.03, 0.03
    rows.update_rows(study, [row(cell, values[cell.arm][cell.seed]) for cell in made.cells], made.ids())
    assert dispatch(command) == 0
    needed = seeds_to_decide(0.01, sd=stdev([0.01, 0.03, 0.03]))
    assert (
        f"cutmix against baseline: {needed} (sd of a paired difference 1.15 points over 3 seeds"
        in capfd.readouterr().out
    )


def test_a_full_disk_leaves_no_half_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = written(tmp_path)

    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plans, "write_atomically", full)
    with pytest.raises(ConfigError, match=r"plan.jsonl cannot be written: No space left on device"):
        plans.freeze(study, build_plan(study), [])
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_runs_of_a_study_are_one_group_in_wandb(tmp_path: Path) -> None:
    from paribus.recipe.arms import _wandb_group_overrides

    class Recipe:
        config = {"tracker": {"events": {}, "wandb": {"group": None, "job_type": None}}}  # noqa: RUF012

    assert _wandb_group_overrides(Recipe(), "my/study", "cutmix") == [
        "tracker.wandb.group=my/study",
        "tracker.wandb.job_type='cutmix'",
    ]  # type: ignore[arg-type]
    Recipe.config = {"tracker": {"events": {}, "wandb": {"group": "mine", "job_type": None}}}
    assert _wandb_group_overrides(Recipe(), "study", "a") == ["tracker.wandb.job_type='a'"]  # type: ignore[arg-type]
    Recipe.config = {"tracker": {"events": {}}}
    assert _wandb_group_overrides(Recipe(), "study", "a") == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pln", "x"], "study pln: no such command (did you mean plan?); there are plan, run, status, cancel, import"),
        (["plan"], "paribus: study plan: the following arguments are required: FOLDER"),
        (["run", "nowhere"], "nowhere: no study there"),
        (["run", "STUDY", "--workers", "0"], "argument --workers: found '0'; should be a whole number, at least 1"),
        (["run", "STUDY", "--wrokers", "2"], "unrecognized arguments: --wrokers 2; paribus study run --help"),
        (["plan", "STUDY", "#", "composes"], "unrecognized arguments: # composes; what follows # is a comment"),
        (["status", "STUDY"], "STUDY has no plan.jsonl yet; run paribus study plan STUDY first"),
        (["import", "STUDY", "nowhere"], "STUDY has no plan.jsonl yet"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "STUDY")
    assert dispatch(["study", *arguments]) == 2
    err = capfd.readouterr().err
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["plan", "run", "status"])
def test_rows_of_a_newer_paribus_are_refused_by_every_command(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = written(tmp_path / "study")
    made_up_plan(study)
    study.results_path.write_text('{"schema": 2}\n')
    before = {path: path.read_bytes() for path in study.folder.iterdir()}
    assert dispatch(["study", command, str(study.folder)]) == 2
    err = capfd.readouterr().err
    assert "results.jsonl: line 1 is of schema 2; this paribus reads up to 1; install a newer one" in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in study.folder.iterdir()} == before


def test_help_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["run", "--help"]):
        assert dispatch(["study", *arguments]) == 0
        assert "usage: paribus study" in capsys.readouterr().out


def test_status_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path / "study")
    plans.freeze(study, build_plan(study), [])
    capsys.readouterr()
    assert dispatch(["study", "status", str(study.folder), "--runs", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"done": 0, "running": 0, "failed": 0, "waiting": 4}
    assert [cell["cell"] for cell in told["cells"]][:2] == ["baseline/s0", "baseline/s1"]
