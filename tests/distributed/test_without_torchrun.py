"""torchrun is killed while its ranks still start: they end with it, and hold no folder."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.worlds import COMMON, torchrun_command


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's end on Linux alone")
@pytest.mark.parametrize("after", [0.0, 1.5])
def test_ranks_end_with_torchrun(after: float, tmp_path: Path) -> None:
    command = torchrun_command(
        2, "-m", "paribus.cli", "train", *COMMON, "steps=1000000ba", "every.log=1000ba", f"paths.runs={tmp_path}"
    )
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    ranks: list[int] = []
    while len(ranks) < 2:  # as soon as they exist they import, for seconds
        assert process.poll() is None
        found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ranks = [int(p) for p in found if b"paribus.cli" in Path(f"/proc/{p}/cmdline").read_bytes()]
        time.sleep(0.01)
    time.sleep(0.5 + after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < deadline, "ranks outlived torchrun by 30 s"
        time.sleep(0.1)
