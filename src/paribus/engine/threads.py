"""How many threads torch computes with on the CPU: a pure function of the config, the environment and the network.

Never of a measured time or of the machine's load: the last bits of a result depend on the count, so the same command
has to choose the same one.
"""

import functools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from paribus.core.cores import count_cores
from paribus.engine.world import World

# FLOPs of the forward pass of what goes through the network at once; a core does these in some 10 to 20 ms. Below it
# are the smoke recipes (0.01 to 0.06 GFLOP) and quickstart (0.2), above it cifar10_resnet18 and all of ImageNet.
# Measured only on a busy machine (two cores of an AMD EPYC, torch 2.15, load 5 to 8): there a second thread made every
# recipe up to 2.6 GFLOP slower, 1.2 to 23 times. What it gains on an idle one is not measured yet.
SMALL_FLOPS = 1e9


@dataclass(frozen=True)
class ThreadChoice:
    """source: what named the count: runtime.threads, an environment variable, or "cores" if nothing did."""

    count: int
    source: Literal["runtime.threads", "OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK", "cores"]


def choose_threads(
    setting: int | Literal["auto"], world: World, env: Mapping[str, str] = os.environ, cores: int | None = None
) -> ThreadChoice:
    """The threads of each process. setting: runtime.threads. cores: that this process may use; None: count them.

    OMP_NUM_THREADS is taken at its word, even above the cores. Of Slurm's cores and of the machine's, each process on
    the machine has its share; under srun, SLURM_CPUS_PER_TASK is that share.
    """
    if setting != "auto":
        return ThreadChoice(setting, "runtime.threads")
    first = env.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is one number for each level of nesting
    if first and not (first.isdecimal() and int(first) > 0):
        _warn_of_junk(first)
    elif first:
        return ThreadChoice(int(first), "OMP_NUM_THREADS")
    return share_cores(world, env, cores)


def share_cores(world: World, env: Mapping[str, str] = os.environ, cores: int | None = None) -> ThreadChoice:
    """How many of the cores each process on this machine has to itself, at least 1."""
    cores = count_cores() if cores is None else cores
    given = env.get("SLURM_CPUS_PER_TASK", "")
    if given.isdecimal() and int(given) > 0:
        share = int(given) if world.launcher == "srun" else int(given) // world.local_size
        return ThreadChoice(max(1, min(share, cores)), "SLURM_CPUS_PER_TASK")
    return ThreadChoice(max(1, cores // world.local_size), "cores")


@functools.cache  # once: the choice is made before the network is built, and again when its size is known
def _warn_of_junk(value: str) -> None:
    print(f"warning: OMP_NUM_THREADS={value} is left out: it should be a number of threads", file=sys.stderr)


def is_small(macs: int | str, images: int) -> bool:
    """Whether a step has too little to do for a second thread. macs: of one image; text where they are not known, which
    counts as large. images: that go through the network at once."""
    return isinstance(macs, int) and 2 * macs * images < SMALL_FLOPS
