"""Which GPU a cell runs on: one cell per GPU by default."""

import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence


def list_gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; [] without any. By nvidia-smi, not torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in (part.strip() for part in visible.split(",")) if name and name != "-1"]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))]


def pick_free_gpu(names: Sequence[str], per_gpu: int, in_use: Iterable[str]) -> str | None:
    """The GPU with the fewest cells that has room for one more, the first of equals; None if all are full.

    in_use: the GPU of each running cell; names that are not in `names` are ignored.
    """
    cells = Counter(in_use)
    best = min(names, key=lambda name: cells[name], default=None)
    return best if best is not None and cells[best] < per_gpu else None
