"""Where a result comes from: code, packages, hardware, command; and the numerics fingerprint of each segment of a run.

The recipe says what is computed. The fingerprint says what else may change the last bits: two segments with equal
fingerprints, on processors (or GPUs) of one model, are promised to agree bit for bit, others are not. The processor's
model stands beside the fingerprint, not in it, as it has since the first version.
"""

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from paribus.core.cores import count_cores
from paribus.core.runfolder import PROVENANCE, read_segments, write_atomically, write_json
from paribus.core.sources import hash_folder, hash_package
from paribus.core.version import __version__
from paribus.engine.distributed import World
from paribus.engine.runtime import Runtime

_PACKAGES = ("paribus", "torch", "torchvision", "timm", "numpy", "hydra-core", "wandb")


def fingerprint(
    runtime: Runtime, device: torch.device, world: World, optimizer: str, packages: Sequence[str] = ()
) -> dict[str, Any]:
    """What can change bits without changing the recipe. optimizer: the implementation of its steps, in words.
    packages: the user's own; their sources are digested where there are any."""
    cuda = device.type == "cuda"
    own = {"packages": {name: hash_package(name) for name in sorted(packages)}} if packages else {}
    return {
        "paribus": package_version("paribus"),
        "code": hash_code(),
        "torch": torch.__version__,
        "device": device_model(device),
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "threads": torch.get_num_threads(),
        "world_size": world.size,
        "optimizer": optimizer,
        "channels_last": runtime.channels_last,
        "compile": runtime.compile,
        "deterministic": runtime.deterministic,
        "tf32": runtime.tf32,
        "fused": runtime.fused,
        "sync_bn": runtime.sync_bn,
        **own,
    }


def device_model(device: torch.device) -> str:
    """The kind of GPU, or of vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()


def hash_code() -> str:
    """Hash of the package's own source files: it distinguishes two versions where there is no git."""
    return hash_folder(Path(__file__).parents[1])


def record_segment(
    run: Path,
    start: int,
    run_fingerprint: dict[str, Any],
    device: torch.device,
    data_checksum: str,
    every: Mapping[str, int],
    origin: str = "",
) -> None:
    """Add a segment that starts at this step to provenance.json; keep a dirty tree's changes as diff.patch.

    every: its intervals in steps, which may change from one segment to the next. origin: what the run starts from,
    in words, where it begins with this segment.
    """
    commit, diff = read_git_state()
    segment = {
        "start_step": start,
        "every": dict(every),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": run_fingerprint,
        "data_checksum": data_checksum,
        "commit": commit,
        "dirty": bool(diff),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": count_cores(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "packages": {name: package_version(name) for name in _PACKAGES},
        **({"init_from": origin} if origin else {}),
    }
    write_json(run / PROVENANCE, {"segments": [*read_segments(run), segment]})
    if diff:
        write_atomically(run / "diff.patch", diff)


def package_version(package: str) -> str | None:
    """What is installed; of paribus what runs, since the record of an editable installation may be older."""
    if package == "paribus":
        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_git_state() -> tuple[str | None, str]:
    """The commit of the checkout that this package runs from and the diff to it, new files too; (None, "") where
    there is no checkout or no git."""
    root = Path(__file__).parents[3]

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, check=False)
        return done.stdout.decode(errors="replace")

    if not (root / ".git").exists():
        return None, ""
    try:
        commit = git("rev-parse", "HEAD").strip() or None
        # a study's rows change while it runs, and are no code
        code = ("--", ".", ":(exclude)experiments")
        new = git("ls-files", "--others", "--exclude-standard", *code).splitlines()
        # --no-index shows a new file as a diff against nothing
        return commit, git("diff", "HEAD", *code) + "".join(
            git("diff", "--no-index", "/dev/null", str(root / f)) for f in new
        )
    except OSError:
        return None, ""


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
