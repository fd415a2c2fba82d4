"""Runs of one recipe in several gloo processes, and how far apart they end.

As a program it prints the table of docs/reliability.md: python tests/distributed/worlds.py SEEDS
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.trainings import Result, result_in

COMMON = ["experiment=smoke", "steps=50ba", "runtime.threads=1", "runtime.device=cpu", "data.val_n=101", "seed=4"]
WORLDS = (2, 4)


def torchrun_command(processes: int, *command: str) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        *(sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"),
        *("--master-addr=127.0.0.1", f"--master-port={port}", *command),
    ]


def torchrun(processes: int, *command: str) -> tuple[int, str]:
    process = subprocess.Popen(
        torchrun_command(processes, *command),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, err = process.communicate(timeout=240)
    finally:
        with suppress(ProcessLookupError):  # workers that hang outlive torchrun
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, err


def together(folder: Path, processes: int, *overrides: str) -> Result:
    code, err = torchrun(processes, "-m", "paribus.cli", "train", *COMMON, *overrides, f"paths.runs={folder}")
    assert code == 0, err
    (run,) = folder.iterdir()
    return result_in(run)


def furthest(one: Result, two: Result) -> float:
    """The largest difference of a weight tensor, relative to its largest entry."""
    return max(float((w - two.weights[k]).abs().max() / w.abs().max()) for k, w in one.weights.items())


CASES = {  # of a net without BatchNorm and dropout; with GroupNorm AdamP has scale-invariant weights to project
    "baseline": ("technique=baseline",),
    "CutMix": ("technique=cutmix",),
    "CutMix and AdamP, GroupNorm": ("technique=[cutmix,adamp]", "model.norm=group"),
}


def differences(case: str, precision: str, seed: int) -> list[float]:
    """How far 2 processes, 4 processes, and one process in float64 end from one process, after 50 steps."""
    overrides = [f"update.precision={precision}", "update.accumulate=2", f"seed={seed}", *CASES[case]]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        one = together(folder / "1", 1, *overrides)
        several = [together(folder / str(n), n, *overrides) for n in WORLDS]
        exact = together(folder / "exact", 1, *overrides, "update.precision=fp64")
    return [*(furthest(one, other) for other in several), furthest(exact, one)]


def table(seeds: range) -> str:
    """Over these seeds the median and the largest of each difference."""
    lines = [
        f"| case ({len(seeds)} seeds) | precision | 2 processes | 4 processes | one process, float64 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        for precision in ("fp64", "fp32"):
            found = [differences(case, precision, seed) for seed in seeds]
            columns = [sorted(column) for column in zip(*found, strict=True)]
            cells = [f"{column[len(column) // 2]:.1e} (at most {column[-1]:.1e})" for column in columns]
            lines.append(f"| {case} | {precision} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(range(int(sys.argv[1]) if len(sys.argv) > 1 else 5)))
