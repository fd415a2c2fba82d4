"""The golden losses, and the platform whose bits they promise."""

import hashlib
from pathlib import Path

import torch

FILE = Path(__file__).parents[1] / "golden" / "losses.json"


def platform() -> str:
    """torch and the kind of CPU: its capabilities choose the kernels, so its flags are part of it."""
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    wanted = ("model name", "cpu family", "model", "flags")
    facts = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines) if k.strip() in wanted}
    flags = hashlib.sha256(facts.get("flags", "").encode()).hexdigest()[:8]
    cpu = f"{facts.get('model name')} {facts.get('cpu family')}/{facts.get('model')} flags {flags}"
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {cpu}"
