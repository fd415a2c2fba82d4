"""Random kills, bit flips and full disks: in the end every result equals the undisturbed one, bit for bit.

The short versions run always; docs/reliability.md has what `python tests/chaos/chaos.py` found with many more.
"""

import os
import random
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


def test_a_study_that_is_killed_again_and_again(tmp_path: Path) -> None:
    account = killed_study(tmp_path, 4, random.Random(1), steps=300, seeds=1)
    assert account.kills >= 2
    assert account.different == []
    # the negative control: a comparison that could not see a difference would be worth nothing
    path = tmp_path / "disturbed" / "study" / "results.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert len(different_rows(tmp_path / "undisturbed", tmp_path / "disturbed")) == 1


def test_two_ranks_one_of_which_is_killed(tmp_path: Path) -> None:
    account = killed_ranks(tmp_path, 2, random.Random(2), steps=1500)
    assert (account.kills, account.different) == (2, [])


def test_a_run_whose_checkpoints_rot(tmp_path: Path) -> None:
    account = flipped_checkpoints(tmp_path, 2, random.Random(3), steps=3000)
    assert account.flips >= 1
    assert account.different == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_run_on_a_disk_that_fills(tmp_path: Path) -> None:
    try:
        account = filled_disk(tmp_path, 2, random.Random(4), steps=3000)
    except Exception as error:
        if "mount" in str(error):
            pytest.skip(f"this root may not mount: {error}")
        raise
    assert account.fills >= 1
    assert account.different == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_as_often_as_the_issue_asks(kind: str, tmp_path: Path) -> None:
    disturb, times = KINDS[kind]
    account: Account = disturb(tmp_path, times, random.Random(20261126))
    print(account.line())
    assert account.different == []
