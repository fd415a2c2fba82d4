"""Packs made by several processes: killed, ended, outlived by nobody; and on a file system that fills."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers.data_command import said
from helpers.image_trees import pets
from helpers.packs import QUIET, content, small_chunks
from paribus.core.errors import RunFailed
from paribus.data.packs import decode_pool
from paribus.data.packs import write as packing
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.data.packs.write import ProgressSink


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    small_chunks(monkeypatch)


def test_workers_change_nothing_and_what_is_there_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, made = pets(tmp_path / "pets", train=5), []
    for n in (1, 2, 3):
        prepare(PrepareRequest("folder", root, 16, tmp_path / f"{n}", workers=n), QUIET)
        made.append(content(tmp_path / f"{n}"))
    assert made[0] == made[1] == made[2]
    assert not any("unfinished" in name for name in made[0])
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "1").iterdir() if path.name != "lock"}
    code, out, _ = said(capsys, "prepare", "folder", "--root", root, "--size", 16, "--out", tmp_path / "1")
    assert code == 0
    assert "packed already" in out
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "1").iterdir() if path.name != "lock"}


SLOWLY = """
import sys, time
from pathlib import Path
from paribus.data.packs import write
from paribus.data.packs.prepare import PrepareRequest, prepare
write._CHUNK_BYTES = 2 * 16 * 16 * 3
slow = write.append_to_disk
def append(file, content):
    slow(file, content)
    print(flush=True)
    appended.append(1)
    if len(appended) == {stop}:
        time.sleep(60)
appended = []
write.append_to_disk = append
said = write.ProgressSink(lambda line: None, lambda total, done: lambda n: None)
if __name__ == "__main__":
    prepare(PrepareRequest("folder", Path({root!r}), 16, Path({out!r}), workers={workers}), said)
"""


# killed with the second chunk's pixels being next, then before their line in the journal, then in the next split
@pytest.mark.parametrize(("n", "kills"), [(1, (2, 3, 9)), (2, (14,))])
def test_a_killed_run_is_gone_on_with_to_the_same_bits(tmp_path: Path, n: int, kills: tuple[int, ...]) -> None:
    root = pets(tmp_path / "pets", train=7)
    prepare(PrepareRequest("folder", root, 16, tmp_path / "straight"), QUIET)
    out = tmp_path / "killed"
    for appended in kills:
        script = tmp_path / "slowly.py"
        script.write_text(SLOWLY.format(root=str(root), out=str(out), workers=n, stop=appended))
        process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdout is not None
        for _ in range(appended):
            assert process.stdout.readline() == b"\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert not (out / "pack.json").exists()
    journal = next(out.glob("unfinished-*.jsonl"))
    rows = [json.loads(line)[1] for line in journal.read_text().splitlines()]
    assert len(rows) >= 5
    with open(next(out.glob("train-*.pixels")), "ab") as file:
        file.write(b"torn")  # a chunk that was being written
    with open(journal, "a") as file:
        file.write('["train", 2, "ab')
    lines: list[str] = []
    prepare(PrepareRequest("folder", root, 16, out), ProgressSink(lines.append, lambda total, done: lambda n: None))
    assert any(f"resuming after {sum(rows)} of 18 images" in line for line in lines)
    assert content(out) == content(tmp_path / "straight")


def test_processes_end_with_their_parent(tmp_path: Path) -> None:
    root = pets(tmp_path / "pets", train=40)
    script = tmp_path / "slowly.py"
    script.write_text(SLOWLY.format(root=str(root), out=str(tmp_path / "out"), workers=2, stop=1))
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("no /proc/…/children here")
    pids = children.read_text().split()
    assert len(pids) >= 2
    process.kill()
    process.wait()
    process.stdout.close()
    until = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until, "a process outlives its parent"
        time.sleep(0.05)


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_that_is_ended_is_one_line(tmp_path: Path) -> None:
    chunk = decode_pool.Chunk(str(tmp_path), ("fifo.png",), 16, False)
    os.mkfifo(tmp_path / "fifo.png")  # whoever opens it waits
    made = decode_pool.decode_in_order([chunk, chunk], 2)

    def end_them() -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)

    timer = threading.Timer(1.0, end_them)
    timer.start()
    with pytest.raises(RunFailed, match="was killed"):
        next(made)
    timer.join()


def mounted(folder: Path, size: str) -> bool:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "paribus-test", folder], capture_output=True)
    return done.returncode == 0


def test_a_small_file_system_really_fills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    if shutil.which("mount") is None or not mounted(small, "1m"):
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        monkeypatch.setattr(packing.PackWriter, "_check_space", lambda self, images: None)
        monkeypatch.setattr(packing, "_CHUNK_BYTES", 2**18)
        root = pets(tmp_path / "pets", train=8)
        words = ("prepare", "folder", "--root", root, "--size", 160, "--out", small / "out", "--workers", 1)
        code, _, err = said(capsys, *words)
        assert code == 2
        assert "the disk is full" in err
        subprocess.run(["mount", "-o", "remount,size=9m", small], check=True)
        code, out, _ = said(capsys, *words)
        assert code == 0
        assert "resuming after" in out
    finally:
        subprocess.run(["umount", small], check=False)
