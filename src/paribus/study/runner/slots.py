"""Whether one more cell may start on this machine, and on which GPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paribus.study.runner.cells import CellState
from paribus.study.runner.devices import pick_free_gpu
from paribus.study.runner.launchers import is_anothers


@dataclass(frozen=True)
class LaunchSettings:
    """runs: the folder of run folders. workers: cells at a time. fill: workers is what the machine has room for, so
    cells of other launchers count too. gpus: names for CUDA_VISIBLE_DEVICES, none for the CPU. repeat: only a finished
    run folder counts as done, no row does; rows go to a file of their own (repeat.py). grace_s: seconds that cells
    have for their checkpoint when the time is up."""

    runs: Path
    workers: int
    gpus: Sequence[str] = ()
    per_gpu: int = 1
    repeat: bool = False
    fill: bool = False
    grace_s: float = 60.0


def find_slot(
    settings: LaunchSettings, wants_gpu: bool, own: Sequence[str], external: Sequence[CellState], launcher: str
) -> tuple[bool, str | None]:
    """Whether a cell may start now, and on which GPU (None: its device is not ours to choose).

    own: devices of our children. external: other cells that run here. launcher: our name. An orphan counts as ours; a
    GPU in use is in use, whoever uses it.
    """
    counted = sum(settings.fill or not is_anothers(settings.runs, now, launcher) for now in external)
    if len(own) + counted >= settings.workers:
        return False, None
    if not settings.gpus or not wants_gpu:
        return True, None
    device = pick_free_gpu(settings.gpus, settings.per_gpu, [*own, *(now.device for now in external)])
    return device is not None, device
