"""Which GPU a cell runs on: one cell per GPU by default. A slice of a GPU (MIG) counts as one."""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence


def list_gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; [] without any. By nvidia-smi, not torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return parse_visible(visible)
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_listed(listed.stdout)


def parse_visible(text: str) -> list[str]:
    """The GPUs that CUDA finds in a value of CUDA_VISIBLE_DEVICES: numbers, or names of GPUs, or names of MIG slices,
    whichever the first one is. The first that is neither ends the list, and one that comes twice empties it.

    >>> parse_visible("0,-1,1"), parse_visible("GPU-8a, GPU-9b"), parse_visible("1,1")
    (['0'], ['GPU-8a', 'GPU-9b'], [])
    """
    found: list[str] = []
    kind = next((prefix for prefix in ("GPU-", "MIG-") if text.strip().startswith(prefix)), None)
    pattern = r"[0-9]+" if kind is None else rf"{kind}.*"
    for part in text.split(","):
        name = re.match(pattern, part.strip())
        if name is None:
            break
        if name[0] in found:
            return []
        found.append(name[0])
    return found


def parse_listed(text: str) -> list[str]:
    """The GPUs that `nvidia-smi -L` lists, by number; those that are sliced (MIG) as their slices, by name."""
    found: list[list[str]] = []  # of each GPU: its number, then its slices
    for line in text.splitlines():
        if gpu := re.match(r"GPU ([0-9]+):", line):
            found.append([gpu[1]])
        elif found and (mig := re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line)):
            found[-1].append(mig[1])
    return [name for number, *slices in found for name in (slices or [number])]


def pick_free_gpu(names: Sequence[str], per_gpu: int, in_use: Iterable[str]) -> str | None:
    """The GPU with the fewest cells that has room for one more, the first of equals; None if all are full.

    in_use: the GPU of each running cell; names that are not in `names` are ignored.
    """
    cells = Counter(in_use)
    best = min(names, key=lambda name: cells[name], default=None)
    return best if best is not None and cells[best] < per_gpu else None
