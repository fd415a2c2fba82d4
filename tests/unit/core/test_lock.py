"""The lock of a folder: the kernel's on one machine, a rule for names of other machines."""

import json
import os
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from paribus.core import lock
from paribus.core.errors import ConfigError
from paribus.core.lock import LOCK, Holder, current_holder, find_holder, locked


def left_by(folder: Path, who: Holder, age: float = 0.0) -> None:
    """A lock file that another machine's process wrote `age` seconds ago and never emptied."""
    (folder / LOCK).write_text(json.dumps(asdict(who)))
    os.utime(folder / LOCK, (time.time() - age,) * 2)


def test_a_folder_is_held_by_one_and_let_go(tmp_path: Path) -> None:
    assert find_holder(tmp_path) is None
    with locked(tmp_path):
        assert find_holder(tmp_path) == current_holder()
        with (
            pytest.raises(ConfigError, match=f"is in use by process {os.getpid()} on {current_holder().host}"),
            locked(tmp_path),
        ):
            pass
    assert find_holder(tmp_path) is None
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        _ = 1 / 0
    assert (tmp_path / LOCK).read_text() == ""


def test_a_name_of_another_machine_counts_until_it_is_stale(tmp_path: Path) -> None:
    other = replace(current_holder(), host="node7")
    left_by(tmp_path, other, age=lock.STALE - 30)
    assert find_holder(tmp_path) == other
    with pytest.raises(ConfigError, match=r"on node7.* counts as dead (29|30) s from now"), locked(tmp_path):
        pass
    left_by(tmp_path, other, age=lock.STALE + 1)
    assert find_holder(tmp_path) is None
    with locked(tmp_path):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [LOCK]


@pytest.mark.parametrize(
    ("job", "restart", "free"), [("12", 0, True), ("12", 1, False), ("11", 0, False), ("", 0, False)]
)
def test_an_earlier_start_of_the_same_slurm_job_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, restart: int, free: bool
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    left_by(tmp_path, Holder("node7", 4, job, restart))
    assert (find_holder(tmp_path) is None) is free
    if free:
        with locked(tmp_path):
            assert find_holder(tmp_path) == Holder(current_holder().host, os.getpid(), "12", 1)
    else:
        with pytest.raises(ConfigError, match="process 4 on node7"), locked(tmp_path):
            pass


def test_the_holder_shows_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with locked(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / LOCK).stat().st_mtime > time.time() - 60
    assert not [t for t in threading.enumerate() if t.name == "lock"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"host": "x"}', "host a, process 1, Slurm job none"])
def test_a_torn_or_foreign_text_holds_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_text(text)
    assert find_holder(tmp_path) is None
    with locked(tmp_path):
        pass


def test_a_reader_in_passing_does_not_make_a_run_fail(tmp_path: Path) -> None:
    import fcntl

    (tmp_path / LOCK).touch()
    with open(tmp_path / LOCK) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.15, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with locked(tmp_path):
            pass
