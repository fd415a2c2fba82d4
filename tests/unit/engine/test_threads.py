"""The number of threads: from config, environment, cores and the network, and never from a clock."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from paribus.engine.runtime import build_from_stream
from paribus.engine.threads import SMALL_FLOPS, ThreadChoice, choose_threads, is_small
from paribus.engine.world import World

SRUN = World(0, 4, 0, 4, "h:1", "srun")
TORCHRUN = World(0, 4, 0, 4, "h:1", "torchrun")


@pytest.fixture
def _two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("setting", "world", "env", "chosen"),
    [
        (3, World(), {"OMP_NUM_THREADS": "1", "SLURM_CPUS_PER_TASK": "2"}, (3, "runtime.threads")),
        ("auto", World(), {"OMP_NUM_THREADS": "1", "SLURM_CPUS_PER_TASK": "2"}, (1, "OMP_NUM_THREADS")),
        ("auto", World(), {"OMP_NUM_THREADS": "4,2"}, (4, "OMP_NUM_THREADS")),
        ("auto", World(), {"OMP_NUM_THREADS": "99"}, (99, "OMP_NUM_THREADS")),
        ("auto", World(), {"OMP_NUM_THREADS": "0"}, (8, "cores")),
        ("auto", World(), {"OMP_NUM_THREADS": "many"}, (8, "cores")),
        ("auto", TORCHRUN, {"OMP_NUM_THREADS": "3"}, (3, "OMP_NUM_THREADS")),
        ("auto", World(), {"SLURM_CPUS_PER_TASK": "6"}, (6, "SLURM_CPUS_PER_TASK")),  # sbatch, no srun
        ("auto", World(), {"SLURM_CPUS_PER_TASK": "64"}, (8, "SLURM_CPUS_PER_TASK")),  # a shell on another machine
        ("auto", SRUN, {"SLURM_CPUS_PER_TASK": "6"}, (6, "SLURM_CPUS_PER_TASK")),  # of each rank
        ("auto", TORCHRUN, {"SLURM_CPUS_PER_TASK": "6"}, (1, "SLURM_CPUS_PER_TASK")),  # of torchrun, for all ranks
        ("auto", World(), {}, (8, "cores")),
        ("auto", TORCHRUN, {}, (2, "cores")),
        ("auto", World(local_size=9), {}, (1, "cores")),
    ],
)
def test_config_before_environment_before_cores(
    setting: object, world: World, env: dict[str, str], chosen: tuple[int, str]
) -> None:
    assert choose_threads(setting, world, env, cores=8) == ThreadChoice(*chosen)  # type: ignore[arg-type]


def test_a_small_step_is_one_of_few_flops_whatever_makes_them() -> None:
    macs = int(SMALL_FLOPS) // 200
    assert is_small(macs - 1, 100)
    assert not is_small(macs, 100)
    assert not is_small(macs - 1, 101)
    assert not is_small("not counted (no single network)", 1), "what is not known is not small"


@pytest.mark.usefixtures("_two_threads")
def test_initialisation_does_not_depend_on_the_number_of_threads() -> None:
    def make() -> nn.Module:
        layer = nn.Linear(300, 300)
        nn.init.orthogonal_(layer.weight)
        return layer

    many = build_from_stream(make, 0, "model")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    one = build_from_stream(make, 0, "model")
    assert torch.equal(many.weight, one.weight)  # type: ignore[arg-type]


def test_a_variable_that_is_no_number_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert choose_threads("auto", World(), {"OMP_NUM_THREADS": "all of them"}, cores=3).count == 3
    assert capsys.readouterr().err.count("OMP_NUM_THREADS=all of them is left out") == 1
