"""What all tests share: one thread, no GPU, real data where there is any, and a way to run the command line."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.gpus import selects_only_gpu_tests
from helpers.warm_commands import WarmCommands

ROOT = Path(__file__).parents[1]
os.environ["WANDB_MODE"] = "disabled"  # only the tests of W&B start it


def pytest_configure(config: pytest.Config) -> None:
    """Hide the machine's GPUs from all tests, and from the processes that they start, unless `-m cuda` asks for the
    tests that need one. Before torch is imported, which counts them once."""
    if not selects_only_gpu_tests(config.getoption("markexpr")):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    """Training in process listens to signals; a later test wants Ctrl-C to mean what it always means."""
    import signal

    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def paribus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run the command line in a process and folder of its own: paribus("train", "experiment=smoke", cwd=...). With
    fresh=True in a new interpreter, else in a fork of one that has imported torch already."""
    warm = WarmCommands()

    def call(
        *arguments: str, cwd: Path | None = None, fresh: bool = False, seconds: float = 240, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        where = cwd or tmp_path_factory.mktemp("cwd")
        env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        if not fresh and warm.is_warm(arguments, env):
            return warm.run(arguments, where, env, seconds)
        return subprocess.run(
            [sys.executable, "-m", "paribus.cli", *arguments],
            cwd=where,
            env=env,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    yield call
    warm.close()


def _real(name: str, folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that holds real data: PARIBUS_DATA, or unpacked from ../shared/data."""
    known = os.environ.get("PARIBUS_DATA")
    if known and (Path(known) / folder).is_dir():
        return known
    unpack = ROOT.parent / "shared" / "data" / "unpack.py"
    if not unpack.is_file():
        pytest.skip(f"no real {name}: neither PARIBUS_DATA nor ../shared/data is there")
    if not hasattr(tarfile, "data_filter") and not name.startswith("cifar"):
        pytest.skip(f"no real {name}: ../shared/data/unpack.py needs a Python whose tarfile has filters (3.11.4)")
    where = tmp_path_factory.getbasetemp().parent / "real-data"  # shared by the workers of one test run
    import fcntl

    where.mkdir(exist_ok=True)
    with open(where / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = where / f"{name}.ready"
        if not ready.exists():
            subprocess.run([sys.executable, str(unpack), str(where), name], check=True, capture_output=True)
            ready.touch()
    return str(where)


@pytest.fixture(scope="session")
def cifar10_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that holds the real CIFAR-10."""
    return _real("cifar-10", "cifar-10-batches-py", tmp_path_factory)


@pytest.fixture(scope="session")
def image_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds parts of the real Imagenette (160 pixels, all 10 classes) and of Tiny ImageNet (20
    classes)."""
    for name in ("imagenette160-sub", "tiny-imagenet-20"):
        root = _real(name, name, tmp_path_factory)
    return Path(root)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that holds Adult and COMPAS."""
    return _real("fairness", "compas", tmp_path_factory)
