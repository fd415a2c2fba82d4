"""One plain line for each entry of the record, for a terminal, CI and Slurm logs alike."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paribus.core.build import schema

_SHOWN = {  # key -> (label, format)
    "train/loss": ("loss", "{:.4f}"),
    "lr": ("lr", "{:.2e}"),
    "val/acc1": ("val acc1", "{:.2%}"),
    "minival/acc1": ("minival acc1", "{:.2%}"),
    "throughput/samples_per_sec": ("img/s", "{:,.0f}"),
}


class Console:
    def __init__(self, total: int) -> None:
        self._total = total

    def log(self, step: int, values: Mapping[str, float]) -> None:
        parts = [f"{label} {form.format(values[key])}" for key, (label, form) in _SHOWN.items() if key in values]
        print(f"step {step:>{len(str(self._total))}}/{self._total}  {'  '.join(parts)}", flush=True)

    def close(self, summary: Mapping[str, Any]) -> None:
        pass


@schema
class ConsoleLines:
    """Step, loss, learning rate, accuracy and images per second on standard output."""

    def __call__(self, folder: Path, start: int, total: int) -> Console:
        return Console(total)
