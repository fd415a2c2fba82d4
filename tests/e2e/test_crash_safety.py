"""What a run survives, done to it: death at every file operation, torn files, a clock that jumps; and what is refused
that a run folder from elsewhere may hold."""

import hashlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from helpers.trainings import Result, result_in, stopping_after, trained
from paribus.cli.main import dispatch

SHORT = ("experiment=smoke", "steps=12ba", "every.log=2ba", "every.evaluate=6ba", "every.checkpoint=4ba")
CRASHES = Path(__file__).parents[1] / "helpers" / "crashes.py"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return trained(tmp_path_factory.mktemp("undisturbed"), *SHORT)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("how", "stride", "least"),
    [
        ("before", 5, 6),
        ("torn", 3, 3),
        pytest.param("before", 1, 30, marks=SLOW),
        pytest.param("torn", 1, 9, marks=SLOW),
    ],
)
def test_killed_at_every_operation_on_a_file(
    how: str, stride: int, least: int, undisturbed: Result, tmp_path: Path
) -> None:
    """Each life dies some operations later than the one before, in checkpoint writes, appends, renames, clean-up."""
    done = subprocess.run(
        [sys.executable, str(CRASHES), str(tmp_path), how, str(stride), *SHORT],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kills, code = map(int, done.stdout.split())
    assert (kills >= least, code) == (True, 0), done.stdout + done.stderr
    (folder,) = tmp_path.iterdir()
    result = result_in(folder)
    assert result.same_as(undisturbed)
    assert (folder / "receipts.jsonl").read_bytes() == (undisturbed.folder / "receipts.jsonl").read_bytes()
    more = set(files(folder)) - set(files(undisturbed.folder))
    # a life that died between its last checkpoint and the removal of an older one leaves that one
    assert more <= {"checkpoints/step_00000004.pt"}
    assert dispatch(["verify", str(folder)]) == 0


def preempted(runs: Path, steps: int) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        stopping_after(patched, steps)
        result = trained(runs, *SHORT)
    assert result.code == 75
    return result.folder


@pytest.mark.parametrize("at", [4, 7])
def test_torn_last_lines_are_cut(at: int, undisturbed: Result, tmp_path: Path) -> None:
    folder = preempted(tmp_path, at)
    for name, torn in {"events.jsonl": '{"step": 8, "val', "receipts.jsonl": '{"step": 8, "losses": {"tr'}.items():
        with open(folder / name, "a") as file:
            file.write(torn)
    assert trained(tmp_path, *SHORT).same_as(undisturbed)
    assert (folder / "receipts.jsonl").read_bytes() == (undisturbed.folder / "receipts.jsonl").read_bytes()


def test_a_lost_receipt_is_noticed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = preempted(tmp_path, 7)
    (folder / "receipts.jsonl").unlink()
    code = dispatch(["train", *SHORT, "tracker=events", "runtime.threads=1", f"paths.runs={tmp_path}"])
    err = capfd.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert "does not hold the 4 lines up to the checkpoint; put the file back, or delete" in err


def test_a_clock_that_jumps_back_changes_nothing(
    undisturbed: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back by an hour at every look, and every file of the run from tomorrow."""
    clock = [time.time()]

    def back() -> float:
        clock[0] -= 3600
        return clock[0]

    monkeypatch.setattr(time, "time", back)
    for steps in (3, 2):
        folder = preempted(tmp_path, steps)
        for path in (folder, *folder.rglob("*")):
            os.utime(path, (2e9, 2e9))
    assert trained(tmp_path, *SHORT).same_as(undisturbed)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Another way to a folder, through which nothing can be written, even by root."""
    way = tmp_path / "read-only"

    def mounted(folder: Path) -> Path:
        way.mkdir()
        for options in (["--bind", str(folder), str(way)], ["-o", "remount,bind,ro", str(way)]):
            done = subprocess.run(["mount", *options], capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"a read-only mount needs rights that this process lacks: {done.stderr.decode().strip()}")
        return way

    yield mounted
    subprocess.run(["umount", str(way)], check=False, capture_output=True)


def test_a_read_only_folder(
    read_only: Callable[[Path], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    folder = preempted(tmp_path / "runs", 7)
    way = read_only(tmp_path / "runs")
    command = ["train", *SHORT, "tracker=events", "runtime.threads=1", f"paths.runs={way}"]
    for seed in (0, 1):  # one that is there and one that is not
        assert dispatch([*command, f"seed={seed}"]) == 2
        err = capfd.readouterr().err
        assert "Read-only file system; make room or choose another with paths.runs=DIR" in err
        assert err.count("\n") == 1
    assert dispatch(["verify", str(way / folder.name)]) == 0, "it writes nothing"
    assert dispatch(["eval", str(way / folder.name)]) == 0


class Payload:
    """What a crafted pickle would do."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.system, (f"touch '{self.mark}'",))


def commands(folder: Path) -> list[list[str]]:
    return [["eval", str(folder)], ["export", str(folder)], ["verify", str(folder), "--span=4:"]]


def test_a_crafted_checkpoint_runs_no_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its checksum is right, as whoever makes one can see to."""
    folder, mark = preempted(tmp_path / "runs", 7), tmp_path / "executed"
    buffer = io.BytesIO()
    for path in (folder / "checkpoints").glob("step_*.pt"):
        state = torch.load(path, weights_only=True)
        buffer = io.BytesIO()
        torch.save({**state, "method": {**state["method"], "model": Payload(mark)}}, buffer)
        path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    train = ["train", *SHORT, "tracker=events", "runtime.threads=1", f"paths.runs={tmp_path}/runs"]
    for command in (train, *commands(folder)):
        capfd.readouterr()
        assert dispatch(command) == 2, command
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert ("is not a sound checkpoint" if command[0] == "verify" else "no checkpoint is sound; delete") in err
        assert not mark.exists()
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert mark.exists(), "negative control: loaded without care, the payload works"


@pytest.mark.parametrize("packages", [[], ["intruder"]])
def test_a_foreign_target_in_a_run_folder_runs_no_code(
    packages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, mark = preempted(tmp_path / "runs", 7), tmp_path / "executed"
    (tmp_path / "intruder.py").write_text(
        f"from pathlib import Path\nfrom paribus.core.build import schema\nPath({str(mark)!r}).touch()\n"
        "@schema\nclass Net:\n    def __call__(self, spec):\n        raise RuntimeError\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "intruder", raising=False)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    foreign = {**config, "packages": packages, "model": {"_target_": "intruder.Net"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(foreign))
    for command in commands(folder):
        assert dispatch(command) == 2, command
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert "model._target_: found intruder.Net; only classes of paribus may be named in a config" in err
        assert not mark.exists()
    dispatch(["verify", str(folder), "packages=[intruder]"])
    assert mark.exists(), "negative control: allowed by hand, the module is imported"
