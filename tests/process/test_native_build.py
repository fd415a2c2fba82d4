"""The C kernels, compiled by several processes at once."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paribus.techniques.adamp.kernels import cpu

COMPILER = cpu.kernel(torch.float32) is not None
needs_a_compiler = pytest.mark.skipif(not COMPILER, reason="no C compiler: fused=True on a CPU falls back")


@needs_a_compiler
def test_processes_that_compile_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    code = (
        "import torch\nfrom paribus.techniques.adamp.kernels import cpu\nassert cpu.kernel(torch.float32) is not None\n"
    )
    environment = {**os.environ, "PARIBUS_CACHE": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen([sys.executable, "-W", "error", "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    (made,) = tmp_path.iterdir()
    assert ctypes.CDLL(str(made)).projecting_step
