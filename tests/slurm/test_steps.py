"""`srun paribus train` on a real Slurm: a step of several tasks is one run, an allocation alone is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.trainings import result_in, trained

COMMON = ["experiment=smoke", "steps=20ba", "runtime.threads=1", "runtime.device=cpu", "update.precision=fp64"]
ASK = "from paribus.engine.world import from_environment as f; w = f(); print(w.rank, w.size, w.local_rank, w.launcher)"


def told(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


def test_a_step_of_two_tasks_trains_one_net(cluster: Path, tmp_path: Path) -> None:
    told("srun", "--ntasks=2", sys.executable, "-m", "paribus.cli", "train", *COMMON, f"paths.runs={tmp_path}/two")
    (folder,) = (tmp_path / "two").iterdir()
    one, two = trained(tmp_path / "one", *COMMON), result_in(folder)
    assert len(two.events) == len(one.events)
    for key, weight in one.weights.items():
        assert float((weight - two.weights[key]).abs().max() / weight.abs().max()) <= 1e-12
    assert '"world_size": 2' in (folder / "provenance.json").read_text()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["srun", "--ntasks=3"], ["0 3 0 srun", "1 3 1 srun", "2 3 2 srun"]),
        (["srun", "--ntasks=1"], ["0 1 0 "]),
        (["salloc", "--quiet", "--ntasks=4"], ["0 1 0 "]),
        (["salloc", "--quiet", "--ntasks=4", "srun", "--ntasks=2"], ["0 2 0 srun", "1 2 1 srun"]),
    ],
)
def test_who_is_who(command: list[str], expected: list[str], cluster: Path) -> None:
    assert told(*command, sys.executable, "-c", ASK) == expected


def test_a_script_of_sbatch_is_one_process(cluster: Path, tmp_path: Path) -> None:
    """Also one that was sent from inside a step of two tasks, whose variables it inherits."""
    script, out = tmp_path / "ask.sh", tmp_path / "out"
    script.write_text(f'#!/bin/sh\n"{sys.executable}" -c "{ASK}"\n')
    inside = f'[ "$SLURM_PROCID" = 1 ] || exit 0; sbatch --wait --ntasks=2 --output={out} {script}'
    told("srun", "--ntasks=2", "--overcommit", "sh", "-c", inside)
    assert out.read_text() == "0 1 0 \n"
