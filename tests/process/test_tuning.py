"""A study that tunes and then runs, by one command, with cells that only pretend: chosen, killed, resumed, refused."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.pretended_cells import pretend
from helpers.studies import written
from paribus.cli.main import dispatch
from paribus.cli.study import run as run_command
from paribus.study import plan as plans
from paribus.study import rows, tuned
from paribus.study.plan import Plan
from paribus.study.runner.progress import LaunchProgress
from paribus.study.spec import Study

TUNE: dict[str, Any] = {"space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}, "trials": 2, "seeds": [10]}
RECIPE = ["experiment=smoke", "steps=20ba", "every.evaluate=10ba", "data.minival=64"]
BETTER = {"baseline.t02/s10": ["done=0.8"], "cutmix.t01/s10": ["done=0.6"]}  # all others: 0.6


class Killed(BaseException):
    """What ends a launcher at once."""


def compose(args: Any, options: Sequence[str] = ()) -> int:
    """In this process: the same, without torch's start."""
    return dispatch(["study", "plan", str(args.study), *options, "--quiet"])


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(run_command, "compose", compose)
    return tuning(tmp_path / "study")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that ran without a stop."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_command, "compose", compose)
        pretend(patched, BETTER)
        study = tuning(tmp_path_factory.mktemp("whole") / "study")
        assert run(study, "--workers", "4") == 0
    return study


def tuning(folder: Path, **changes: Any) -> Study:
    return written(folder, **{"settings": None, "recipe": RECIPE, "seeds": 1, "tune": TUNE, **changes})


@pytest.fixture
def done(whole: Study, study: Study) -> Study:
    """A copy of it, with its run folders."""
    shutil.copytree(whole.folder.parent, study.folder.parent, dirs_exist_ok=True)
    return study


def run(study: Study, *options: str) -> int:
    return dispatch(["study", "run", str(study.folder), "--runs", str(study.folder.parent / "runs"), *options])


def stage_plan(study: Study) -> Plan:
    return plans.require_plan(tuned.open_stage(study))


def record(study: Study) -> dict[str, Any]:
    """All that a study leaves behind, without clocks."""
    stage = tuned.open_stage(study)
    return {
        "plans": [study.plan_path.read_bytes(), stage.plan_path.read_bytes()],
        "rows": [
            [(r.cell, r.id, r.state, r.metrics, r.why) for r in rows.read_rows(path)]
            for path in (study.results_path, stage.results_path)
        ],
    }


def test_one_command_tunes_chooses_and_runs(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tuning(study.folder, tune={**TUNE, "seeds": [10, 11]}, seeds=2)
    pretend(monkeypatch, {"baseline.t02/s10": ["done=0.8"], "baseline.t02/s11": ["done=0.62"]})
    assert run(study, "--workers", "4") == 0
    told = capfd.readouterr()
    assert "tuning: 12 runs, then the study" in told.err
    assert "tuned    baseline: optimizer.lr=0.027 (t02, minival/acc1 0.7100)" in told.err
    plan = plans.require_plan(study)
    assert plan.tuned is not None
    chosen = plan.tuned.arms
    assert [(arm, one.trial, one.value) for arm, one in chosen.items()] == [
        ("baseline", "t02", pytest.approx(0.71)),
        ("cutmix", "default", pytest.approx(0.605)),
    ]
    for cell in plan.cells:
        assert set(chosen[cell.arm].overrides) <= set(cell.overrides)
        assert not any("minival]" in override for override in cell.overrides), "the study is judged on its own split"
    assert {row.arm for row in rows.read_rows(study.results_path)} == {"baseline", "cutmix"}
    before = record(study)
    assert run(study) == 0
    assert "4 cells: 4 done, 0 running, 0 to run" in capfd.readouterr().out
    assert record(study) == before


def test_no_run_of_the_tuning_reads_the_split_that_is_judged_on(study: Study) -> None:
    assert dispatch(["study", "plan", str(study.folder)]) == 0
    plan = stage_plan(study)
    assert [cell.name for cell in plan.cells[:3]] == ["baseline.default/s10", "baseline.t01/s10", "baseline.t02/s10"]
    assert not {cell.seed for cell in plan.cells} & set(study.spec.seeds)
    for recipe in plan.recipes.values():
        there = {name: one for name, one in recipe["evaluators"].items() if one is not None}
        assert {name: one["splits"] for name, one in there.items()} == {"accuracy": ["minival"]}
    assert not study.plan_path.exists(), "nothing is chosen yet"


def test_both_arms_try_the_same_list(study: Study) -> None:
    assert dispatch(["study", "plan", str(study.folder)]) == 0
    lists: dict[str, list[str]] = {}
    for cell in stage_plan(study).cells:
        rates = [override for override in cell.overrides if override.startswith("optimizer.lr=")]
        lists.setdefault(cell.arm.partition(".")[0], []).extend(rates)
    assert len(lists["baseline"]) == 2
    assert lists["baseline"] == lists["cutmix"]


@pytest.mark.parametrize("dies_at", [1, 4, 6, 7])
def test_a_study_that_is_killed_at_any_moment_ends_as_if_nothing_had_been(
    dies_at: int, study: Study, whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6 runs of the tuning and 2 of the study; the last of the tuning is where nothing is chosen yet."""
    pretend(monkeypatch, BETTER)
    seen, done = [0], LaunchProgress.done

    def die(self: LaunchProgress, *args: Any) -> None:
        done(self, *args)
        seen[0] += 1
        if seen[0] == dies_at:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(LaunchProgress, "done", die)
        with pytest.raises(Killed):
            run(study, "--workers", "1")
    assert (tuned.find_chosen(study) is not None) == (dies_at > 6)
    assert run(study, "--workers", "1") == 0
    assert record(study) == record(whole)
    starts = [path.read_text().count("== start ") for path in (tmp_path / "runs").glob("*.log")]
    assert len(starts) == 8
    assert sum(starts) <= 9, "only what was running when it died is started anew"


def test_a_trial_that_fails_counts_as_worst_and_is_listed(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One fails in training, one is refused before it starts, one fails once and is fine when tried again."""
    script = {"baseline.t02/s10": ["fail", "fail"], "cutmix.t01/s10": ["refuse"]}
    script["cutmix.t02/s10"] = ["fail", "done=0.9"]
    pretend(monkeypatch, script)
    assert run(study, "--workers", "4") == 0
    assert "failed while tuning, and counted as worst: baseline.t02/s10, cutmix.t01/s10" in (capfd.readouterr().err)
    found = {row.cell: row for row in tuned.read_stage_rows(study)}
    assert len(found) == 6
    assert {cell for cell, row in found.items() if row.state == "failed"} == {"baseline.t02/s10", "cutmix.t01/s10"}
    assert found["baseline.t02/s10"].why == "the loss is not finite"
    assert "optimizer.lr: found -1" in found["cutmix.t01/s10"].why
    chosen = tuned.find_chosen(study)
    assert chosen is not None
    assert (chosen.arms["cutmix"].trial, chosen.arms["cutmix"].value) == ("t02", 0.9)
    assert chosen.arms["baseline"].trial in ("default", "t01")


def test_an_arm_of_which_all_failed_stops_the_study_until_it_works(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ("default", "t01", "t02")
    pretend(monkeypatch, {f"cutmix.{name}/s10": ["fail", "fail"] for name in names})
    assert run(study, "--workers", "4") == 3
    assert "tune: nothing can be chosen for cutmix" in capfd.readouterr().err
    assert not study.plan_path.exists()
    assert run(study, "--workers", "4") == 0, "the third start of each is fine"
    assert study.plan_path.exists()


def test_plan_does_not_choose_while_a_failed_run_may_still_be_tried_again(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {"cutmix.t01/s10": ["fail", "fail"]})
    with monkeypatch.context() as patched:
        patched.setattr(tuned, "find_hopeless", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(study, "--workers", "4")
    command = ["study", "plan", str(study.folder)]
    assert dispatch(command) == 0
    assert not study.plan_path.exists()
    assert "cutmix.t01/s10 failed: paribus study run" in capfd.readouterr().out
    assert dispatch([*command, "--count-failed"]) == 0
    assert study.plan_path.exists()


def test_a_row_that_changes_after_the_choice_is_refused(done: Study, capfd: pytest.CaptureFixture[str]) -> None:
    study = done
    path = tuned.open_stage(study).results_path
    lines = path.read_text().splitlines()
    row = json.loads(lines[0])
    row["cost"]["train_s"] += 1  # what the choice does not rest on may be corrected
    path.write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
    assert dispatch(["study", "plan", str(study.folder), "--quiet"]) == 0
    row["metrics"]["minival/acc1"] += 1e-9
    path.write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
    before = study.plan_path.read_bytes()
    for command in ("plan", "run", "report"):
        capfd.readouterr()
        assert dispatch(["study", command, str(study.folder)]) == 2
        err = capfd.readouterr().err
        assert "tune/results.jsonl: has changed since the settings in " in err
        assert err.count("\n") == 1
    path.unlink()
    assert dispatch(["study", "plan", str(study.folder)]) == 2
    assert study.plan_path.read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"tune": {**TUNE, "trials": 3}},
        {"tune": {**TUNE, "seeds": [10, 11]}},
        {"tune": {**TUNE, "space": {"optimizer.lr": {"log_uniform": [1e-3, 1.0]}}}},
        {"recipe": [*RECIPE, "batch_size=16"]},
    ],
    ids=["trials", "seeds", "space", "recipe"],
)
def test_what_was_tuned_is_not_changed_after_the_choice(
    changes: dict[str, Any], done: Study, capfd: pytest.CaptureFixture[str]
) -> None:
    study = done
    tuning(study.folder, **changes)
    capfd.readouterr()
    assert dispatch(["study", "plan", str(study.folder)]) == 2
    err = capfd.readouterr().err
    assert "tune: the space, trials, seeds or recipe have changed since the settings in " in err
    assert err.count("\n") == 1
    tuning(study.folder)
    assert dispatch(["study", "plan", str(study.folder), "--quiet"]) == 0


def test_more_seeds_of_the_study_leave_the_choice(done: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {})
    before = plans.require_plan(done).tuned
    assert run(tuning(done.folder, seeds=2), "--workers", "4") == 0
    after = plans.require_plan(done)
    assert (len(after.cells), after.tuned) == (4, before)


def test_a_repeat_is_of_the_study_alone_and_comes_after_the_choice(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {})
    for command in ("plan", "run"):
        assert dispatch(["study", command, str(study.folder), "--repeat"]) == 2
        assert "--repeat: repeats the study's cells" in capfd.readouterr().err
    assert not tuned.read_stage_rows(study)
    assert run(study, "--workers", "4") == 0
    capfd.readouterr()
    assert run(study, "--repeat", "--workers", "4") == 0
    assert "repeat-1: of 2 cells trained in it, 2 equal their rows" in capfd.readouterr().out


def test_status_shows_both_stages(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {"cutmix.t01/s10": ["fail", "fail"]})
    assert dispatch(["study", "plan", str(study.folder), "--quiet"]) == 0
    command = ["study", "status", str(study.folder), "--runs", str(study.folder.parent / "runs")]
    assert dispatch(command) == 0
    out = capfd.readouterr().out
    assert "baseline      3     0        0       0        3" in out
    assert "nothing is chosen yet" in out
    assert dispatch([*command, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["cells"], found["tuning"]["counts"]["waiting"]) == ([], 6)
    assert run(study, "--workers", "4") == 0
    capfd.readouterr()
    assert dispatch(command) == 0
    out = capfd.readouterr().out
    assert "cutmix        3     2        0       1        0" in out
    assert "failed: cutmix.t01/s10: the loss is not finite" in out
    assert "baseline      1     1        0       0        0" in out.partition("study:")[2]
    assert dispatch([*command, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    stage = found["tuning"]["counts"]
    assert (found["counts"]["done"], stage["done"], stage["failed"]) == (2, 5, 1)


def test_a_trial_that_is_the_default_shares_its_runs(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """experiment=smoke has 0.01, so that one of its two trials is no run of its own."""
    study = tuning(study.folder, tune={**TUNE, "space": {"optimizer.lr": {"choices": [0.01, 0.02]}}})
    pretend(monkeypatch, {f"{arm}.default/s10": ["done=0.9"] for arm in ("baseline", "cutmix")})
    assert run(study, "--workers", "4") == 0
    plan = stage_plan(study)
    assert (len(plan.recipes), len(plan.cells)) == (6, 4)
    chosen = tuned.find_chosen(study)
    assert chosen is not None
    assert {one.trial for one in chosen.arms.values()} == {"default"}, "of equal ones the first"
    results = tuned.collect_results(
        tuned.require_tune(study), tuned.list_arm_trials(study), plan, tuned.read_stage_rows(study)
    )
    assert sorted(one.median for one in results["baseline"])[1:] == [0.9, 0.9], "both have the shared runs' value"


def test_tuning_cannot_be_added_to_a_study_that_has_rows(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {})
    untuned = tuning(study.folder, tune=None, settings="paper")
    assert run(untuned, "--workers", "4") == 0
    assert b'"tuned"' not in untuned.plan_path.read_bytes()
    tuning(study.folder)
    capfd.readouterr()
    assert dispatch(["study", "plan", str(study.folder)]) == 2
    assert "has 2 rows of runs with settings that were not tuned" in capfd.readouterr().err


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"recipe": RECIPE[:3]}, "tune.metric: found minival/acc1, but data.minival is 0, so no images are held out"),
    ({"tune": {**TUNE, "metric": "minival/ece", "higher_is_better": False}}, "the evaluators measure minival/acc1"),
    ({"tune": {**TUNE, "space": {"optimizer.lrr": {"choices": [1, 2]}}}}, "optimizer.lrr: no such key"),
    ({"tune": {**TUNE, "space": {"optimizer.lr": {"uniform": [-2, -1]}}}}, "arms.baseline.t01: optimizer.lr: found -1"),
    ({"arms": {"slow": ["optimizer.lr=0.01"], "fast": ["optimizer.lr=0.02"]}}, "slow and fast differ only in keys"),
    ({"arms": {"a": [], "b": ["technique=pit"]}}, "arms.b: technique=pit does not fit this recipe"),
]


@pytest.mark.parametrize(("changes", "told"), REFUSED, ids=[told[:40] for _, told in REFUSED])
def test_a_mistake_that_only_composing_shows_is_found_before_anything_is_written(
    changes: dict[str, Any], told: str, study: Study, capfd: pytest.CaptureFixture[str]
) -> None:
    tuning(study.folder, **changes)
    assert dispatch(["study", "plan", str(study.folder)]) == 2
    err = capfd.readouterr().err
    assert told in err
    assert err.count("arms.") <= 1  # said once, by whoever knows the arm
    assert err.count("\n") == 1
    assert [path.name for path in study.folder.iterdir()] == ["study.yaml"]
