"""A study that tunes and then runs, by one command, with cells that only pretend: chosen, killed, resumed, refused."""

import json
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

TUNE: dict[str, Any] = {"space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}, "trials": 2, "seeds": 2}
RECIPE = ["experiment=smoke", "steps=20ba", "every.evaluate=10ba", "data.minival=64"]
BETTER = {"baseline.t02/s100": ["done=0.8"], "baseline.t02/s101": ["done=0.6"], "cutmix.t01/s101": ["done=0.6"]}


class Killed(BaseException):
    """What ends a launcher at once."""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    def compose(args: Any, options: Sequence[str] = ()) -> int:
        return dispatch(["study", "plan", str(args.study), *options, "--quiet"])

    monkeypatch.setattr(run_command, "compose", compose)  # in this process: the same, without torch's start
    return tuning(tmp_path / "study")


def tuning(folder: Path, **changes: Any) -> Study:
    return written(folder, **{"settings": None, "recipe": RECIPE, "seeds": 2, "tune": TUNE, **changes})


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
    pretend(monkeypatch, BETTER)
    assert run(study, "--workers", "4") == 0
    told = capfd.readouterr()
    assert "tuning: 12 runs, then the study" in told.err
    assert "tuned    baseline: optimizer.lr=0.0027 (t02, minival/acc1 0.7000)" in told.err.replace("0.027", "0.0027")
    plan = plans.require_plan(study)
    assert plan.tuned is not None
    chosen = plan.tuned.arms
    assert [(arm, one.trial, one.value) for arm, one in chosen.items()] == [
        ("baseline", "t02", pytest.approx(0.7)),  # the mean of the middle two of 0.8 and 0.6
        ("cutmix", "default", pytest.approx(1.505)),
    ] or chosen["cutmix"].trial in ("default", "t01")
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
    assert [cell.name for cell in plan.cells[:3]] == [
        "baseline.default/s100",
        "baseline.default/s101",
        "baseline.t01/s100",
    ]
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
    assert len(lists["baseline"]) == 4
    assert lists["baseline"] == lists["cutmix"]


@pytest.mark.parametrize("dies_at", [1, 7, 12, 13])
def test_a_study_that_is_killed_at_any_moment_ends_as_if_nothing_had_been(
    dies_at: int, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 runs of the tuning and 4 of the study; the last of the tuning is where nothing is chosen yet."""
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
    assert (tuned.find_chosen(study) is not None) == (dies_at > 12)
    assert run(study, "--workers", "1") == 0
    whole = tuning(tmp_path / "whole" / "study")
    assert run(whole, "--workers", "4") == 0
    assert record(study) == record(whole)
    starts = [path.read_text().count("== start ") for path in (tmp_path / "runs").glob("*.log")]
    assert len(starts) == 16
    assert sum(starts) <= 17, "only what was running when it died is started anew"


def test_a_trial_that_fails_counts_as_worst_and_is_listed(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One fails in training, one is refused before it starts, one fails once and is fine when tried again."""
    script = {f"baseline.t02/s{seed}": ["fail", "fail"] for seed in (100, 101)}
    script |= {f"cutmix.t01/s{seed}": ["refuse"] for seed in (100, 101)}
    script["cutmix.t02/s100"] = ["fail", "done=0.9"]
    script["cutmix.t02/s101"] = ["done=0.9"]
    script["cutmix.default/s100"] = script["cutmix.default/s101"] = ["done=0.1"]
    pretend(monkeypatch, script)
    assert run(study, "--workers", "4") == 0
    assert "failed while tuning, and counted as worst: baseline.t02/s100, baseline.t02/s101, cutmix.t01/s100" in (
        capfd.readouterr().err
    )
    found = {row.cell: row for row in tuned.read_stage_rows(study)}
    assert len(found) == 12
    assert {cell for cell, row in found.items() if row.state == "failed"} == {*list(script)[:4]}
    assert found["baseline.t02/s100"].why == "the loss is not finite"
    assert "optimizer.lr: found -1" in found["cutmix.t01/s100"].why
    chosen = tuned.find_chosen(study)
    assert chosen is not None
    assert (chosen.arms["cutmix"].trial, chosen.arms["cutmix"].value) == ("t02", 0.9)
    assert chosen.arms["baseline"].trial in ("default", "t01")


def test_an_arm_of_which_all_failed_stops_the_study_until_it_works(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ("default", "t01", "t02")
    pretend(monkeypatch, {f"cutmix.{name}/s{seed}": ["fail", "fail"] for name in names for seed in (100, 101)})
    assert run(study, "--workers", "4") == 3
    assert "tune: nothing can be chosen for cutmix" in capfd.readouterr().err
    assert not study.plan_path.exists()
    assert run(study, "--workers", "4") == 0, "the third start of each is fine"
    assert study.plan_path.exists()


def test_plan_does_not_choose_while_a_failed_run_may_still_be_tried_again(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {"cutmix.t01/s100": ["fail", "fail"]})
    with monkeypatch.context() as patched:
        patched.setattr(tuned, "find_hopeless", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(study, "--workers", "4")
    command = ["study", "plan", str(study.folder)]
    assert dispatch(command) == 0
    assert not study.plan_path.exists()
    assert "cutmix.t01/s100 failed: paribus study run" in capfd.readouterr().out
    assert dispatch([*command, "--count-failed"]) == 0
    assert study.plan_path.exists()


def test_a_row_that_changes_after_the_choice_is_refused(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, BETTER)
    assert run(study, "--workers", "4") == 0
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
        {"tune": {**TUNE, "seeds": 3}},
        {"tune": {**TUNE, "space": {"optimizer.lr": {"log_uniform": [1e-3, 1.0]}}}},
        {"recipe": [*RECIPE, "batch_size=16"]},
    ],
    ids=["trials", "seeds", "space", "recipe"],
)
def test_what_was_tuned_is_not_changed_after_the_choice(
    changes: dict[str, Any], study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {})
    assert run(study, "--workers", "4") == 0
    tuning(study.folder, **changes)
    capfd.readouterr()
    assert dispatch(["study", "plan", str(study.folder)]) == 2
    err = capfd.readouterr().err
    assert "tune: the space, trials, seeds or recipe have changed since the settings in " in err
    assert err.count("\n") == 1
    tuning(study.folder)
    assert dispatch(["study", "plan", str(study.folder), "--quiet"]) == 0


def test_more_seeds_of_the_study_leave_the_choice(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {})
    assert run(study, "--workers", "4") == 0
    before = plans.require_plan(study).tuned
    assert run(tuning(study.folder, seeds=3), "--workers", "4") == 0
    after = plans.require_plan(study)
    assert (len(after.cells), after.tuned) == (6, before)


def test_a_repeat_is_of_the_study_alone_and_comes_after_the_choice(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {})
    assert dispatch(["study", "plan", str(study.folder), "--repeat"]) == 2
    assert "--repeat: repeats the study's cells" in capfd.readouterr().err
    assert run(study, "--workers", "4") == 0
    capfd.readouterr()
    assert run(study, "--repeat", "--workers", "4") == 0
    assert "repeat-1: of 4 cells trained in it, 4 equal their rows" in capfd.readouterr().out


def test_status_shows_both_stages(
    study: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {"cutmix.t01/s100": ["fail", "fail"]})
    assert dispatch(["study", "plan", str(study.folder), "--quiet"]) == 0
    command = ["study", "status", str(study.folder), "--runs", str(study.folder.parent / "runs")]
    assert dispatch(command) == 0
    out = capfd.readouterr().out
    assert "baseline      6     0        0       0        6" in out
    assert "nothing is chosen yet" in out
    assert dispatch([*command, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["cells"], found["tuning"]["counts"]["waiting"]) == ([], 12)
    assert run(study, "--workers", "4") == 0
    capfd.readouterr()
    assert dispatch(command) == 0
    out = capfd.readouterr().out
    assert "cutmix        6     5        0       1        0" in out
    assert "failed: cutmix.t01/s100: the loss is not finite" in out
    assert "baseline      2     2        0       0        0" in out.partition("study:")[2]
    assert dispatch([*command, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["counts"]["done"], found["tuning"]["counts"]["done"], found["tuning"]["counts"]["failed"]) == (
        4,
        11,
        1,
    )


def test_a_trial_that_is_the_default_shares_its_runs(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """experiment=smoke has 0.01, so that one of its two trials is no run of its own."""
    study = tuning(study.folder, tune={**TUNE, "space": {"optimizer.lr": {"choices": [0.01, 0.02]}}})
    script = {f"{arm}.default/s{seed}": ["done=0.9"] for arm in ("baseline", "cutmix") for seed in (100, 101)}
    pretend(monkeypatch, script)
    assert run(study, "--workers", "4") == 0
    plan = stage_plan(study)
    assert (len(plan.recipes), len(plan.cells)) == (6, 8)
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
    assert "has 4 rows of runs with settings that were not tuned" in capfd.readouterr().err


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
    assert err.count("\n") == 1
    assert [path.name for path in study.folder.iterdir()] == ["study.yaml"]
