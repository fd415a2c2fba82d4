"""Which of how many processes this is: torchrun's variables, srun's as they were seen on real clusters, or none."""

import re
from typing import Any

import pytest

from paribus.core.errors import ConfigError
from paribus.engine.world import PORTS, World, choose_port, first_host, from_environment, tasks_on_node

# task 1 of `srun -n 2` on one node, as Slurm 22.05 sets them
STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_STEP_NODELIST": "vm",
    "SLURM_STEP_TASKS_PER_NODE": "2",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_GTIDS": "0,1",
}
MANY = {
    **STEP,
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_NODELIST": "gpu[07-08,11]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),3",
    "SLURM_PROCID": "5",
    "SLURM_NODEID": "2",
    "SLURM_GTIDS": "4,5,6",
}


def test_alone() -> None:
    assert from_environment({}) == World()
    assert World().is_main


def test_torchrun_comes_first() -> None:
    env = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", **STEP}
    found = from_environment({**env, "MASTER_PORT": "29400"})
    assert found == World(3, 4, 1, 2, "a:29400", "torchrun")


def test_a_step_of_srun_on_one_node_meets_on_the_loopback() -> None:
    found = from_environment(STEP)
    assert found == World(1, 2, 1, 2, f"127.0.0.1:{choose_port(7, 0, 0)}", "srun")
    assert not found.is_main


def test_a_step_on_several_nodes_meets_on_the_first() -> None:
    found = from_environment(MANY)
    assert found == World(5, 7, 1, 3, f"gpu07:{choose_port(7, 0, 0)}", "srun")
    chosen = from_environment({**MANY, "MASTER_ADDR": "ib-gpu07", "MASTER_PORT": "1234"})
    assert chosen.master == "ib-gpu07:1234"


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_STEP_NUM_TASKS": None, "SLURM_STEP_ID": None},  # the script of sbatch -n 2, or the shell of salloc
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_GTIDS": "0"},  # srun -n 1 in an allocation of two
        {"SLURM_GTIDS": "0", "SLURM_PROCID": "0"},  # sbatch from inside a step: its variables, but for GTIDS
    ],
)
def test_an_allocation_is_not_a_step(changes: dict[str, Any]) -> None:
    env = {key: value for key, value in {**STEP, **changes}.items() if value is not None}
    assert from_environment(env) == World()


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("RANK: found 'x' in the environment; should be a whole number")):
        from_environment({"RANK": "x"})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("vm", "vm"),
        ("a1,b2", "a1"),
        ("gpu[03-05,09],cpu1", "gpu03"),
        ("gpu[9,11]", "gpu9"),
        ("a[1-4]b[2,7]-ib", "a1b2-ib"),
        ("", ""),
    ],
)
def test_first_host(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_tasks_on_node() -> None:
    assert [tasks_on_node("4(x2),3", node) for node in range(4)] == [4, 4, 3, 0]


def test_steps_side_by_side_and_restarts_have_ports_of_their_own() -> None:
    near = {choose_port(job, step, restart) for job in (41, 42) for step in range(5) for restart in range(5)}
    assert len(near) == 50
    assert all(port in PORTS for port in near)
    assert choose_port(2**31, 0, 0) in PORTS
