"""A Slurm cluster of one node for the tests here, in a folder; they are skipped where Slurm is not installed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm" / "cluster.sh"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    missing = [p for p in ("slurmctld", "slurmd", "munged", "sbatch", "srun") if not shutil.which(p, path=PATH)]
    if missing or os.geteuid() != 0:
        why = f"{missing[0]} is not installed" if missing else "slurmd needs root"
        pytest.skip(f"no Slurm to test against: {why}; scripts/slurm/cluster.sh says how to get one")
    folder = tmp_path_factory.mktemp("cluster")
    told = subprocess.run(
        ["bash", str(SCRIPT), "start", str(folder)],
        env={**os.environ, "PATH": PATH, "CPUS": "4", "MAX_ARRAY": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr + (folder / "slurmctld.log").read_text()
    yield folder
    subprocess.run(["bash", str(SCRIPT), "stop", str(folder)], check=True)


@pytest.fixture
def cluster(_cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose slurm.conf is in force for this test. Whatever a test left in the queue is taken back."""
    monkeypatch.setenv("SLURM_CONF", str(_cluster / "slurm.conf"))
    monkeypatch.setenv("PATH", PATH)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield _cluster
    subprocess.run(["scancel", "--user=root"], check=True)
