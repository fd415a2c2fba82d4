"""Rank and world size of this process: from torchrun's variables, from srun's, or alone. No torch here.

Under srun nobody sets MASTER_ADDR and MASTER_PORT, so every task derives them alike: the first node of the step, and a
port computed from the numbers of job, step and restart. An allocation is not a step: a plain sbatch or salloc shell
with SLURM_NTASKS=4 stays one process.
"""

import ctypes
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from paribus.core.errors import ConfigError

PORTS = range(15_000, 32_000)  # below Linux's ephemeral ports (32768 and up)


@dataclass(frozen=True)
class World:
    """local_rank, local_size: on this machine. master: host:port where the processes meet, "" for one alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    master: str = ""
    launcher: Literal["", "torchrun", "srun"] = ""

    @property
    def is_main(self) -> bool:
        """Rank 0 alone writes and prints."""
        return self.rank == 0


def from_environment(env: Mapping[str, str] = os.environ) -> World:
    """What torchrun says in RANK, WORLD_SIZE and LOCAL_RANK; else what srun says, inside a step of several tasks; else
    a single process. Raises ConfigError if a variable is not a number."""
    if "RANK" in env or "WORLD_SIZE" in env:
        rank, size = _number(env, "RANK", 0), _number(env, "WORLD_SIZE", 1)
        master = f"{env.get('MASTER_ADDR', '127.0.0.1')}:{env.get('MASTER_PORT', '29500')}" if size > 1 else ""
        return World(
            rank, size, _number(env, "LOCAL_RANK", 0), _number(env, "LOCAL_WORLD_SIZE", size), master, "torchrun"
        )
    return _from_srun(env)


def end_with_launcher() -> None:
    """Under torchrun: have the kernel send SIGTERM when torchrun is gone, however it ended.

    A rank that is still importing, or waits for the others to come, would get no signal and wait for minutes.
    Linux only.
    """
    if from_environment().launcher != "torchrun" or not sys.platform.startswith("linux"):
        return
    launcher = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != launcher:  # it ended while this was being set
        os.kill(os.getpid(), signal.SIGTERM)


def _from_srun(env: Mapping[str, str]) -> World:
    size = _number(env, "SLURM_STEP_NUM_TASKS", 1)
    local_size = len(env.get("SLURM_GTIDS", "").split(","))
    if size < 2 or not env.get("SLURM_STEP_ID", "").isdecimal():
        return World()
    here = tasks_on_node(env.get("SLURM_STEP_TASKS_PER_NODE", ""), _number(env, "SLURM_NODEID", 0))
    if local_size != here:  # a job submitted from inside a step inherits the step's variables, but for its tasks
        return World()
    alone = _number(env, "SLURM_STEP_NUM_NODES", 1) == 1
    host = env.get("MASTER_ADDR") or ("127.0.0.1" if alone else first_host(env.get("SLURM_STEP_NODELIST", "")))
    numbers = [_number(env, f"SLURM_{key}", 0) for key in ("JOB_ID", "STEP_ID", "RESTART_COUNT")]
    port = env.get("MASTER_PORT") or str(choose_port(*numbers))
    rank, local_rank = _number(env, "SLURM_PROCID", 0), _number(env, "SLURM_LOCALID", 0)
    return World(rank, size, local_rank, local_size, f"{host}:{port}", "srun")


def first_host(nodes: str) -> str:
    """The first name of Slurm's short form: gpu03 of gpu[03-05,09],cpu1; a1b2 of a[1-4]b[2,7]."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first.group() if first else "")


def tasks_on_node(counts: str, node: int) -> int:
    """The entry of a node in Slurm's short form of tasks per node: 4 for node 1 of 4(x2),3. 0 if there is none."""
    for entry in filter(None, counts.split(",")):
        tasks, _, times = entry.partition("(x")
        node -= int(times.rstrip(")") or 1)
        if node < 0:
            return int(tasks)
    return 0


def choose_port(job: int, step: int, restart: int) -> int:
    """Steps of one job may run side by side on a node, and a restart may come before the old port is free."""
    return PORTS[(job * 101 + step * 11 + restart) % len(PORTS)]


def _number(env: Mapping[str, str], key: str, default: int) -> int:
    text = env.get(key, str(default))
    if not text.isdecimal():
        raise ConfigError(f"{key}: found {text!r} in the environment; should be a whole number")
    return int(text)
