"""`paribus train -m`: two jobs that are one run are refused before anything is made; a table stands at the end."""

from pathlib import Path

import pytest

from paribus.cli.main import dispatch

SWEEP = ("train", "-m", "experiment=smoke", "steps=2ba", "runtime.threads=1", "tracker=events")


@pytest.mark.parametrize(
    ("swept", "said"),
    [
        (("seed=0,0",), "jobs 1 (seed=0) and 2 (seed=0) are the same run"),
        (("optimizer.lr=0.01,1e-2",), "jobs 1 (optimizer.lr=0.01) and 2 (optimizer.lr=0.01)"),
        (("technique=cutmix,[cutmix]",), "jobs 1 (technique=cutmix) and 2 (technique=[cutmix])"),
        (("runtime.threads=1,2",), "jobs 1 (runtime.threads=1) and 2 (runtime.threads=2)"),  # computes the same
    ],
)
def test_two_jobs_of_one_folder_are_refused_before_the_first_starts(
    swept: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    fixed = [word for word in SWEEP if word.partition("=")[0] not in {key.partition("=")[0] for key in swept}]
    assert dispatch([*fixed, *swept]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_table_has_every_job_also_those_that_failed_or_were_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dispatch([*SWEEP, "optimizer.lr=0.01,-1,0.02"]) == 2
    shown = capfd.readouterr().out
    table = shown.split("\n\njob ")[1].splitlines()
    assert table[0].split() == ["optimizer.lr", "val/acc1"]
    assert table[2].split()[:4] == ["2", "-1", "wrong", "input:"]
    assert sum(line.endswith("best") for line in table) >= 1
    assert table[-1] == "3 jobs: 2 ended with 0, 1 ended with 2"
    assert dispatch([*SWEEP, "optimizer.lr=0.01,0.02"]) == 0
    again = capfd.readouterr().out
    assert again.count("is done already") == 2
    assert table[1] in again, "those that were done before are in the table as well"


def test_a_quiet_sweep_is_a_named_line_a_job_and_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dispatch([*SWEEP, "-q", "seed=0,1"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(": val/acc1 ")[0] for line in lines[:2]] == ["seed=0: done", "seed=1: done"]
    assert [line.split()[:2] for line in lines[2:]] == [[], ["job", "seed"], ["1", "0"], ["2", "1"]]
    assert dispatch([*SWEEP, "-q", "seed=1,-1"]) == 2
    done, failed = capfd.readouterr()
    assert done.startswith("seed=1: runs/"), "of one that is done already"
    assert failed.startswith("paribus: seed=-1: ")
    assert "wrong input: " in done.partition("\n\njob ")[2]


def test_a_quiet_run_is_its_result_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for sweep in ([], ["-m"]):  # of one job too
        assert dispatch(["train", *sweep, *SWEEP[2:], f"seed={len(sweep)}", "-q"]) == 0
        assert capfd.readouterr().out.startswith("done: val/acc1 ")
