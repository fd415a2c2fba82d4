"""The checks of `paribus doctor`: each looks at one thing on this machine and imports nothing heavy.

torch is imported only to ask a CUDA build for its devices, which takes two seconds.
"""

import ast
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from paribus import __version__
from paribus.core.compiler import cache_folder, find_compiler
from paribus.core.cores import count_cores
from paribus.core.errors import to_one_line
from paribus.core.formatting import format_bytes, format_count, format_list
from paribus.doctor.data import check_data, check_packs
from paribus.doctor.finding import Finding
from paribus.engine.threads import choose_threads
from paribus.engine.world import World

LOW_SPACE = 2 * 10**9  # bytes; runs of a small recipe take some 10 MB each, a pack of Imagenette 1 GB


class Gpu(NamedTuple):
    """As nvidia-smi tells it. mig: whether it is divided into slices."""

    name: str
    memory: str
    driver: str
    mig: str


def check_machine(runs: Path) -> list[Finding]:
    """All checks, in the order of their lines. runs: the folder of run folders."""
    gpus = list_gpus()
    return [
        check_python(),
        check_packages(),
        check_torch(),
        check_gpu(gpus, read_cuda_build()),
        check_cores(),
        check_memory(),
        check_compiler(),
        check_cache(),
        check_data(),
        *check_packs(),
        check_space("runs", runs),
        check_wandb(),
        check_slurm(),
    ]


def check_python() -> Finding:
    """A Python that is too old cannot install paribus."""
    where = f"{sys.executable}, paribus {__version__}"
    return Finding("python", "ok", f"{platform.python_version()} ({where}), {platform.platform()}")


def check_packages() -> Finding:
    """What paribus's metadata requires, against what is installed."""
    from packaging.requirements import Requirement  # hydra-core brings it

    try:
        wanted = [Requirement(line) for line in importlib.metadata.requires("paribus") or ()]
    except importlib.metadata.PackageNotFoundError:
        return Finding("packages", "warning", "paribus runs from its source and is not installed", "pip install .")
    wrong: list[str] = []
    needed = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    for requirement in needed:
        version = find_version(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, needed is {requirement.specifier}")
    if wrong:
        return Finding("packages", "missing", format_list(wrong), "pip install --upgrade paribus, or pip install .")
    versions = [f"{name} {find_version(name)}" for name in ("torchvision", "timm", "numpy", "wandb")]
    return Finding("packages", "ok", f"all {len(needed)} that paribus needs: {', '.join(versions)}, …")


def find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_cuda_build() -> str | None:
    """The CUDA version that torch was built for, from its version.py; None for a CPU build, or without torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    for node in ast.parse((Path(spec.origin).parent / "version.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "cuda" and node.value is not None:
            return ast.literal_eval(node.value)
    return None


def check_torch() -> Finding:
    version = find_version("torch")
    if version is None:
        return Finding("torch", "missing", "torch is not installed", "pip install torch torchvision")
    cuda = read_cuda_build()
    return Finding("torch", "ok", f"{version}, {f'built for CUDA {cuda}' if cuda else 'a build for the CPU alone'}")


def list_gpus() -> list[Gpu]:
    """By nvidia-smi, so without torch; [] without a GPU or its driver."""
    query = "--query-gpu=name,memory.total,driver_version,mig.mode.current"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [Gpu(*row) for row in rows if done.returncode == 0 and len(row) == len(Gpu._fields)]


def check_gpu(gpus: Sequence[Gpu], cuda_build: str | None, ask: Callable[[], tuple[int, str]] | None = None) -> Finding:
    """Whether torch can use the GPUs that are here. ask: torch's number of devices, and what it says."""
    names = ", ".join(f"{g.name} ({g.memory}{', divided by MIG' * (g.mig == 'Enabled')})" for g in gpus)
    if cuda_build is None:
        if gpus:
            advice = "install a CUDA build of it (pytorch.org/get-started)"
            return Finding(
                "GPU", "warning", f"{names}, which this torch, a build for the CPU alone, cannot use", advice
            )
        return Finding("GPU", "ok", _explain_no_gpu())
    count, said = (ask or ask_torch)()
    if count:
        driver = f", driver {gpus[0].driver}" if gpus else ""
        return Finding(
            "GPU", "ok", f"{names or format_count(count, 'device')}{driver}; paribus doctor gpu tries it out"
        )
    if gpus:
        advice = (
            f"a driver for CUDA {cuda_build} or later, or a torch built for an older CUDA; see CUDA_VISIBLE_DEVICES"
        )
        return Finding("GPU", "warning", f"{names}, which torch does not see{f' ({said})' * bool(said)}", advice)
    return Finding("GPU", "ok", _explain_no_gpu())


def _explain_no_gpu() -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    by = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES={hidden!r} says which are seen)"
    return f"none{by}; training runs on the CPU"


def ask_torch() -> tuple[int, str]:
    """How many CUDA devices torch sees, and the warning it gives where that is none."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import torch

            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    except ImportError as error:
        return 0, to_one_line(str(error))
    return count, next((to_one_line(str(w.message)) for w in caught if "CUDA" in str(w.message)), "")


def check_cores() -> Finding:
    cores, all_cores = count_cores(), os.cpu_count() or 1
    threads = choose_threads("auto", World())
    limit = f" of {all_cores}, by affinity or a quota" if cores < all_cores else ""
    found = f"{cores}{limit}; {format_count(threads.count, 'thread')} a process, by {threads.source}"
    if threads.count > cores:
        return Finding("cores", "warning", found, f"set {threads.source} to {cores} or less")
    return Finding("cores", "ok", found)


def check_memory() -> Finding:
    try:
        rows = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
        total, free = (1024 * int(next(r[1] for r in rows if r[0] == key)) for key in ("MemTotal:", "MemAvailable:"))
    except (OSError, StopIteration):
        return Finding("memory", "ok", "not known on this system")
    return Finding("memory", "ok", f"{format_bytes(total)}, {format_bytes(free)} of it free")


def check_compiler() -> Finding:
    compiler = find_compiler()
    what = "the C kernels (image input, runtime.fused) and Triton"
    advice = "install gcc (apt install gcc g++, or conda install -c conda-forge compilers), or set CC"
    if not compiler:
        return Finding(
            "compiler", "missing", f"no cc, gcc or clang, which {what} need; slower forms run instead", advice
        )
    try:
        done = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("compiler", "missing", f"{' '.join(compiler)} does not run: {to_one_line(str(error))}", advice)
    version = (done.stdout.splitlines() or [""])[0]
    if shutil.which("g++") is None and shutil.which("clang++") is None and "CXX" not in os.environ:
        return Finding("compiler", "warning", f"{version}; no C++ compiler, for runtime.compile on a CPU", advice)
    return Finding("compiler", "ok", version)


def check_cache() -> Finding:
    folder = cache_folder()
    if can_write(folder):
        return Finding("cache", "ok", f"{folder} for compiled kernels")
    advice = "set PARIBUS_CACHE to a folder that can be written"
    return Finding("cache", "missing", f"{folder} cannot be written, where compiled kernels are kept", advice)


def find_existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def can_write(folder: Path) -> bool:
    """Whether it can be written, or made, found out by a file that is gone at once: a superuser is told to have every
    right, also where nobody can make anything."""
    try:
        with tempfile.TemporaryFile(dir=find_existing(folder)):
            return True
    except OSError:
        return False


def check_space(name: Literal["runs", "space"], folder: Path, needed: int = 0) -> Finding:
    """Free space for run folders. needed: bytes; 0 where that is not known."""
    there = find_existing(folder)
    free = shutil.disk_usage(there).free
    found = f"{format_bytes(free)} free for {folder}" + (f", {format_bytes(needed)} needed" if needed else "")
    advice = "make room, or choose another folder with paths.runs=DIR"
    if not can_write(folder):
        return Finding(name, "missing", f"{folder} cannot be written", "choose another folder with paths.runs=DIR")
    if free < needed:
        return Finding(name, "missing", found, advice)
    return Finding(name, "warning" if free < LOW_SPACE else "ok", found, advice if free < LOW_SPACE else "")


def check_wandb() -> Finding:
    """As training decides it: tracking/wandb.py."""
    from paribus.tracking.wandb import WandB, has_login

    version, mode = find_version("wandb"), WandB().effective_mode
    if version is None:
        return Finding("W&B", "missing", "wandb is not installed", "pip install wandb")
    if mode in ("disabled", "offline"):
        return Finding("W&B", "ok", f"{mode} by the environment")
    if not has_login():
        advice = "wandb login, or WANDB_API_KEY; WANDB_MODE=offline keeps a local record"
        return Finding("W&B", "missing", "not logged in, so nothing of it is started", advice)
    return Finding("W&B", "ok", f"logged in, wandb {version}")


def check_slurm() -> Finding:
    where = shutil.which("sbatch")
    return Finding("Slurm", "ok", where or "no sbatch here; paribus study run --cluster slurm alone needs it")
