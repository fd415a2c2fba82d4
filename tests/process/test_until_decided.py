"""`paribus study run --until-decided` with cells that only pretend: which run, when it stops, and what is recorded."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.pretended_cells import pretend
from helpers.studies import made_up_plan, row, written
from paribus.cli.main import dispatch
from paribus.cli.study.until_decided import run_until_decided
from paribus.core.exit_codes import OK, REQUEUE, STUDY_FAILED
from paribus.study.looks import RecordedInterim, read_looks
from paribus.study.plan import Cell, Plan
from paribus.study.rows import read_rows, update_rows
from paribus.study.runner.launcher import Launch, LaunchSettings
from paribus.study.runner.progress import LaunchProgress
from paribus.study.runner.signals import LaunchStop
from paribus.study.spec import Study

LOCAL = argparse.Namespace(dry_run=False, cluster=None)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    arms = {"base": [], "better": ["a=1"], "same": ["a=2"]}
    return written(tmp_path / "study", arms=arms, seeds={"first": 3, "more": 2, "most": 7}, retries=0)


def value_of(arm: str, seed: int) -> float:
    """`better` is decided at the second look and `same` at none, as in tests/unit/study/test_interim.py."""
    sign = 1 if seed % 2 else -1
    return {"base": 0.5, "better": 0.6 + sign * 0.01, "same": 0.504 + sign * 0.03}[arm]


def run(study: Study, plan: Plan, calls: list[list[str]], *, stop_at: int = 99, failing: Sequence[str] = ()) -> int:
    """Cells end at once, with a row. calls: gets the names of the cells of each look that is run."""

    def run_cells(cells: Sequence[Cell]) -> int:
        calls.append([cell.name for cell in cells])
        if len(calls) > stop_at:
            return REQUEUE
        new = [
            row(cell, state="failed", why="no luck", metrics={}, curves={})
            if cell.name in failing
            else row(cell, value_of(cell.arm, cell.seed))
            for cell in cells
        ]
        update_rows(study, new, plan.ids())
        return STUDY_FAILED if any(r.state == "failed" for r in new) else OK

    return run_until_decided(LOCAL, study, plan, run_cells)


def test_a_decided_arm_stops_and_the_others_go_on_to_the_last_look(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, calls = made_up_plan(study), list[list[str]]()
    assert run(study, plan, calls) == OK
    assert [len(cells) for cells in calls] == [9, 6, 4]
    assert {cell.partition("/")[0] for cell in calls[2]} == {"base", "same"}
    assert len(read_rows(study.results_path)) == 19, "of 21 that are planned"
    made = [look.interim for look in read_looks(study)]
    assert [(one.number, dict(one.verdicts)) for one in made if one] == [
        *((1, {}), (2, {"better against base": "better"}), (3, {"better against base": "better"}))
    ]
    said = capsys.readouterr().out
    assert "look 3 of 3: 7 seeds of base, same" in said
    assert "Decided at look 2 of 3" in said
    assert "The last planned look, at 7 seeds, was made; what it did not decide stays undecided." in said

    assert run(study, plan, calls := []) == OK, "it is over, so nothing runs"
    assert calls == []
    assert len(read_looks(study)) == 3


def test_it_stops_before_the_last_look_where_all_is_decided_with_real_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = written(tmp_path / "study", arms={"base": [], "better": ["a=1"]}, seeds={"first": 2, "more": 1, "most": 4})
    plan = made_up_plan(study)
    pretend(monkeypatch, {cell.name: [f"done={value_of(cell.arm, cell.seed) / 2}"] for cell in plan.cells})

    def run_cells(cells: Sequence[Cell]) -> int:
        settings = LaunchSettings(tmp_path / "runs", 2)
        Launch(study, plan, settings, LaunchProgress(), LaunchStop(), tuple(cells)).run()
        return OK

    assert run_until_decided(LOCAL, study, plan, run_cells) == OK
    assert sorted(r.cell for r in read_rows(study.results_path)) == [
        f"{arm}/s{seed}" for arm in ("base", "better") for seed in range(3)
    ]


def test_stopped_between_looks_it_goes_on_where_it_was(study: Study) -> None:
    plan = made_up_plan(study)
    assert run(study, plan, [], stop_at=1) == REQUEUE
    assert [look.interim.number for look in read_looks(study) if look.interim] == [1]
    assert run(study, plan, calls := []) == OK
    assert [len(cells) for cells in calls] == [6, 4]


def test_a_failed_seed_counts_and_is_told(study: Study) -> None:
    plan = made_up_plan(study)
    assert run(study, plan, calls := [], failing=["same/s4"]) == STUDY_FAILED
    assert [len(cells) for cells in calls] == [9, 6, 4], "its look has counted it as failed, so it is not run again"
    assert [r.cell for r in read_rows(study.results_path) if r.state == "failed"] == ["same/s4"]


def test_a_look_without_two_pairs_waits_and_failures_are_run_again(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made_up_plan(study)
    assert run(study, plan, calls := [], failing=["same/s0", "same/s1"]) == STUDY_FAILED
    assert len(calls) == 1
    assert "look 1 has 1 usable seeds of same against base, two are needed" in capsys.readouterr().err
    assert read_looks(study) == []
    assert run(study, plan, calls := []) == OK, "they fail no more"
    assert calls[0] == ["same/s0", "same/s1"]


def test_looks_of_an_earlier_plan_settle_nothing(study: Study) -> None:
    """With fewer looks now than were made then."""
    assert run(study, made_up_plan(study), [], stop_at=2) == REQUEUE
    assert [look.interim.number for look in read_looks(study) if look.interim] == [1, 2]
    study = written(study.folder, arms=study.spec.arms, seeds={"first": 7, "more": 1, "most": 7}, retries=0)
    assert run(study, made_up_plan(study), calls := []) == OK
    assert len(calls[0]) == 6
    assert read_looks(study)[-1].interim == RecordedInterim(1, {"better against base": "better"})


@pytest.mark.parametrize(
    ("seeds", "words", "said"),
    [
        (2, [], "fixes the number of seeds; plan looks before the first run"),
        ({"first": 2, "more": 1, "most": 3}, ["--repeat"], "leave one out"),
    ],
)
def test_refusals(
    tmp_path: Path,
    seeds: object,
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = written(tmp_path / "study", seeds=seeds)
    made_up_plan(study)
    monkeypatch.setattr("paribus.cli.study.run.compose", lambda args: OK)
    assert dispatch(["study", "run", str(study.folder), "--until-decided", *words]) == 2
    assert said in capsys.readouterr().err
