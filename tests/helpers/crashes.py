"""A program that trains one run over and over and is killed each time a little later, until the run is done.

    python tests/helpers/crashes.py RUNS before|torn STRIDE OVERRIDE...

Each life is a fork, so that torch is imported once. `before`: a life dies by SIGKILL right before its k-th operation on
a file of the run (open, rename, remove, mkdir); k is 1, then STRIDE more in each life. `torn`: right before its k-th
fsync, and half of what was written since the one before is lost, as in a power cut. Prints how many lives were killed,
and the exit code of the last.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch

from helpers.trainings import QUIET, composed
from paribus.engine import provenance
from paribus.runs.train import train

OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir")


def dying_before(k: int, runs: str) -> None:
    seen = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS and isinstance(arguments[0], str) and arguments[0].startswith(runs):
            seen[0] += 1
            if seen[0] == k:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def dying_torn(k: int, runs: str) -> None:
    seen, sizes, fsync = [0], dict[str, int](), os.fsync

    def torn(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(path):
            return fsync(descriptor)
        seen[0] += 1
        size = os.fstat(descriptor).st_size
        if seen[0] == k:
            os.truncate(path, (sizes.get(path, 0) + size) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        sizes[path] = size
        return fsync(descriptor)

    os.fsync = torn


def life(cfg: Any, prepare: Callable[[], None]) -> int:
    """Train in a fork; its exit code, below 0 for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            prepare()
            code = train(cfg, [])
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    runs, how, stride, *overrides = sys.argv[1:]
    provenance.read_git_state = lambda: (None, "")  # asks git, which has nothing to do with it
    cfg = composed(*QUIET, *overrides, f"paths.runs={runs}")
    torch.use_deterministic_algorithms(False)  # imports much, once for all lives
    kill = {"before": dying_before, "torn": dying_torn}[how]
    kills, code = 0, life(cfg, functools.partial(kill, 1, runs))
    while code == -signal.SIGKILL:
        kills += 1
        code = life(cfg, functools.partial(kill, 1 + kills * int(stride), runs))
    print(kills, code)
