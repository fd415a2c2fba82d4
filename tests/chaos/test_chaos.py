"""Random kills, bit flips and full disks: in the end every result equals the undisturbed one, bit for bit.

The short versions run always; docs/reliability.md has what `python tests/chaos/chaos.py` found with many more.
"""

import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.disturbances import (
    KINDS,
    Account,
    different_rows,
    filled_disk,
    flipped_checkpoints,
    killed_ranks,
    killed_study,
)
from helpers.launchers import until
from helpers.processes import Processes, checkpoints_below, processes_with, wait_for_checkpoints


def test_a_study_that_is_killed_again_and_again(tmp_path: Path) -> None:
    account = killed_study(tmp_path, 4, random.Random(1), steps=300, seeds=1)
    assert account.kills >= 2
    assert account.different == []
    # the negative control: a comparison that could not see a difference would be worth nothing
    path = tmp_path / "disturbed" / "study" / "results.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert len(different_rows(tmp_path / "undisturbed", tmp_path / "disturbed")) == 1


def test_two_ranks_one_of_which_is_killed(tmp_path: Path) -> None:
    account = killed_ranks(tmp_path, 1, random.Random(2), steps=900)
    assert (account.kills, account.different) == (1, [])


def test_a_run_whose_checkpoints_rot(tmp_path: Path) -> None:
    account = flipped_checkpoints(tmp_path, 2, random.Random(3), steps=1000)
    assert account.flips >= 1
    assert account.different == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_run_on_a_disk_that_fills(tmp_path: Path) -> None:
    try:
        account = filled_disk(tmp_path, 2, random.Random(4), steps=1000)
    except Exception as error:
        if "mount" in str(error):
            pytest.skip(f"this root may not mount: {error}")
        raise
    assert account.fills >= 1
    assert account.different == []


def test_no_process_outlives_a_test_that_fails(tmp_path: Path) -> None:
    """Nor does one in a session of its own that it has started, such as a cell or a rank."""
    code = (
        "import subprocess, sys, time, pathlib\n"
        "if len(sys.argv) == 1: subprocess.Popen([sys.executable, __file__, 'again'], start_new_session=True)\n"
        "else: pathlib.Path('started').touch()\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "sleeps.py").write_text(code)

    def fail() -> None:
        with Processes(tmp_path) as processes:
            processes.start(tmp_path, [sys.executable, str(tmp_path / "sleeps.py")])
            until(lambda: (tmp_path / "started").exists())
            assert len(processes_with(str(tmp_path))) == 2
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert processes_with(str(tmp_path)) == []


def test_a_start_is_disturbed_only_once_it_has_written_checkpoints_of_its_own(tmp_path: Path) -> None:
    """However long it takes to get there; what an earlier start has left does not count, unless written again."""
    folder = tmp_path / "runs" / "a-run" / "checkpoints"
    folder.mkdir(parents=True)
    for step in (50, 100):
        (folder / f"step_{step}.pt").touch()
    code = (
        "import pathlib, time\n"
        "def wait(name):\n"
        "    while not pathlib.Path(name).exists(): time.sleep(0.01)\n"
        f"for step in (100, 150):\n"
        f"    wait(f'go-{{step}}'); pathlib.Path(f'{folder}/step_{{step}}.pt').write_text('new')\n"
        "wait('go-on')\n"
    )
    before = checkpoints_below(tmp_path)
    with Processes(tmp_path) as processes, ThreadPoolExecutor(1) as aside:
        process = processes.start(tmp_path, [sys.executable, "-c", code])
        waits = aside.submit(wait_for_checkpoints, tmp_path, before, 2, process)
        (tmp_path / "go-100").touch()
        until(lambda: checkpoints_below(tmp_path) != before)
        with pytest.raises(TimeoutError):
            waits.result(0.3)
        (tmp_path / "go-150").touch()
        waits.result(60)
        assert process.poll() is None
        (tmp_path / "go-on").touch()
        wait_for_checkpoints(tmp_path, before, 99, process)  # which has ended, and will write no more
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_as_often_as_the_issue_asks(kind: str, tmp_path: Path) -> None:
    disturb, times = KINDS[kind]
    account: Account = disturb(tmp_path, times, random.Random(20261126))
    print(account.line())
    assert account.different == []
