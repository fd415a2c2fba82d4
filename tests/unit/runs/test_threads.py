"""The thread count of a run: recorded, kept when it is resumed, and named when it is done."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers.trainings import result_in, run, stopping_after, trained
from paribus.core.runfolder import PROVENANCE, write_json
from paribus.engine.provenance import device_model
from paribus.engine.threads import ThreadChoice
from paribus.engine.world import World
from paribus.runs import threads
from paribus.runs.threads import decide_resumed, find_kept_count

SHORT = ("experiment=smoke", "steps=4ba", "every.log=2ba", "every.checkpoint=2ba", "runtime.threads=auto")


@pytest.fixture(autouse=True)
def _nobody_asks_for_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two cores, no environment variable, and one thread for the tests that follow."""
    for variable in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("paribus.engine.threads.count_cores", lambda: 2)
    monkeypatch.setattr(threads, "count_cores", lambda: 2)
    yield
    torch.set_num_threads(1)


def recorded_counts(folder: Path) -> list[int]:
    return [s["fingerprint"]["threads"] for s in json.loads((folder / "provenance.json").read_text())["segments"]]


def test_a_small_network_trains_with_one_thread_and_a_large_one_with_all_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recorded_counts(run(tmp_path / "small", *SHORT)[1]) == [1]
    with monkeypatch.context() as larger:
        larger.setattr("paribus.engine.threads.SMALL_FLOPS", 1e6)
        assert recorded_counts(run(tmp_path / "large", *SHORT)[1]) == [2]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # an answer, for a small network too
    assert recorded_counts(run(tmp_path / "asked", *SHORT)[1]) == [2]


def test_auto_gives_the_bits_of_the_count_that_it_chose(tmp_path: Path) -> None:
    auto, named = trained(tmp_path / "auto", *SHORT), trained(tmp_path / "one", *SHORT, "runtime.threads=1")
    assert auto.same_as(named)


@pytest.mark.parametrize(
    ("variable", "overrides", "count", "told"),
    [
        (None, (), 2, ""),
        ("1", (), 2, "note: this run keeps the 2 threads it was started with, so that its bits stay the same; "),
        (None, ("runtime.threads=1",), 1, "note: this run has computed with 2 threads so far and goes on with 1: "),
    ],
)
def test_a_resumed_run_keeps_its_count_unless_the_config_names_another(
    variable: str | None,
    overrides: tuple[str, ...],
    count: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as first:
        first.setenv("OMP_NUM_THREADS", "2")
        stopping_after(first, 2)
        assert run(tmp_path, *SHORT)[0] == 75
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    capsys.readouterr()
    code, folder = run(tmp_path, *SHORT, *overrides)
    assert (code, recorded_counts(folder)) == (0, [2, count])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert [line.startswith(told) for line in said] == ([True] if told else [])
    assert result_in(folder).events[-1]["step"] == 4


@pytest.mark.parametrize(
    ("fingerprint", "kept"),
    [
        ({}, 5),
        ({"world_size": 2}, None),  # each of one process's threads would be too many
        ({"device": "another GPU"}, None),
        ({"threads": None}, None),
    ],
)
def test_what_was_computed_elsewhere_binds_nobody(
    fingerprint: dict[str, object], kept: int | None, tmp_path: Path
) -> None:
    device = torch.device("cpu")
    here = {"threads": 5, "world_size": 1, "device": device_model(device)}
    write_json(
        tmp_path / PROVENANCE,
        {"segments": [{"fingerprint": here | {"threads": 3}}, {"fingerprint": here | fingerprint}]},
    )
    assert find_kept_count(tmp_path, World(), device) == kept
    assert find_kept_count(tmp_path / "new", World(), device) is None


def test_a_kept_count_above_the_cores_is_kept_and_told() -> None:
    count, told = decide_resumed(ThreadChoice(2, "cores"), 8, cores=2)
    assert count == 8
    assert told.startswith("this run keeps the 8 threads it was started with")
    assert "2 cores may be used here" in told
    assert decide_resumed(ThreadChoice(2, "cores"), 2, cores=2) == (2, "")


def test_a_finished_run_says_with_which_count_it_was_made_if_another_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, *SHORT)
    capsys.readouterr()
    for overrides, variable, told in (
        ((), None, ""),
        (("runtime.threads=1",), None, ""),
        (("runtime.threads=2",), None, "it was made with 1 thread, not the 2 of runtime.threads; "),
        ((), "3", "it was made with 1 thread, not the 3 of OMP_NUM_THREADS; "),
    ):
        if variable is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", variable)
        assert run(tmp_path, *SHORT, *overrides)[0] == 0
        said = capsys.readouterr().out
        assert "is done already" in said
        assert "delete it to run again" in said
        assert ("it was made with" in said) == bool(told)
        assert told in said
