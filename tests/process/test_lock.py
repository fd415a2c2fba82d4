"""The lock of a folder, held by other processes: killed ones, and forked children."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from paribus.core.errors import ConfigError
from paribus.core.lock import find_holder, locked


def test_the_kernel_lets_go_when_the_holder_is_killed(tmp_path: Path) -> None:
    code = (
        f"import time; from pathlib import Path; from paribus.core.lock import locked\n"
        f"with locked(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    found = find_holder(tmp_path)
    assert found is not None
    assert found.process == process.pid
    process.kill()
    process.wait()
    process.stdout.close()
    assert find_holder(tmp_path) is None
    with locked(tmp_path):
        pass


def test_a_forked_child_does_not_hold_the_folder_on(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    go = context.Event()
    with locked(tmp_path):
        child = context.Process(target=go.wait, daemon=True)
        child.start()
        with pytest.raises(ConfigError, match="is in use"), locked(tmp_path):
            pass
    with locked(tmp_path):  # the child lives still
        assert child.is_alive()
    go.set()
    child.join()
