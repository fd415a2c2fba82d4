"""Does the device train as the CPU does, twice alike, from a checkpoint alike, and compiled alike?"""

import tempfile
from pathlib import Path
from typing import Any

import torch

from paribus.core.errors import ConfigError
from paribus.doctor.gpu_check import Mismatch, NotHere, Passed, require_equal
from paribus.doctor.gpu_data import AUGMENTATIONS, check_augmentation, check_crops
from paribus.doctor.gpu_optimizers import check_forms
from paribus.doctor.gpu_steps import ALONE, Trajectory, compose, prepare, runtime_applied, train_some
from paribus.engine import checkpoint
from paribus.engine.loop import RunSettings, StepIntervals
from paribus.engine.loop import train as train_loop
from paribus.engine.stop import StopRequest
from paribus.runs.replay import TOLERANCE
from paribus.runs.trackers import Trackers

CPU = torch.device("cpu")
EXPERIMENTS = ("smoke", "smoke_mobile", "smoke_vit")
PRECISIONS = ("fp64", "fp32", "bf16", "fp16")
COMPILE_MODES = ("true", "reduce-overhead", "max-autotune")


def check_training(experiment: str, precision: str, device: torch.device, steps: int) -> Passed:
    """The losses of some steps with CutMix, against the CPU's. fp64 shows a wrong operation; the others, a wrong
    rounding: half precision rounds elsewhere on a CPU, and two nets drift apart."""
    recipe = compose(f"experiment={experiment}", "technique=cutmix", f"update.precision={precision}")
    here, there = (train_some(recipe, d, steps) for d in (CPU, device))
    apart = compare_losses(here, there, TOLERANCE[precision])
    return Passed(f"losses of {steps} steps within {apart:.1e}", {"difference": apart})


def compare_losses(here: Trajectory, there: Trajectory, tolerance: float) -> float:
    """The largest relative difference. Raises Mismatch beyond the tolerance, with the step."""
    apart = ((here.losses - there.losses).abs() / here.losses.abs().clamp_min(1e-6)).nan_to_num(torch.inf)
    worst = int(apart.argmax())
    if float(apart[worst]) > tolerance:
        raise Mismatch(
            f"the loss of step {worst} is {float(there.losses[worst]):.6g}, {float(here.losses[worst]):.6g} is right "
            f"(off by {float(apart[worst]):.1e}, {tolerance:g} is allowed)"
        )
    return float(apart[worst])


def check_deterministic(experiment: str, device: torch.device, steps: int) -> Passed:
    """runtime=deterministic: two trainings in this process, the same bits."""
    recipe = compose(f"experiment={experiment}", "technique=cutmix", "runtime=deterministic")
    first, second = (train_some(recipe, device, steps) for _ in range(2))
    require_equal("losses", first.losses, second.losses)
    for a, b in zip(first.weights, second.weights, strict=True):
        require_equal("weights", a, b)
    return Passed(f"{steps} steps twice, the same bits")


class StopHalfway(StopRequest):
    """Asks for a stop after so many steps, as a scheduler's signal would."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def should_stop(self, world: Any, device: torch.device, now: bool) -> bool:
        self._left -= 1
        return self._left == 0


def check_resume(experiment: str, device: torch.device, steps: int) -> Passed:
    """A training that stops halfway and goes on from its checkpoint ends in the bits of one that does not."""
    recipe = compose(f"experiment={experiment}", "technique=adamp", "runtime=deterministic", "ema.decay=0.9")
    every = StepIntervals(5, steps, steps)
    with runtime_applied(recipe.runtime, device), tempfile.TemporaryDirectory(prefix="paribus-doctor-") as name:

        def train(folder: str, stop: StopRequest) -> dict[str, Any]:
            path = Path(name, folder)
            path.mkdir(exist_ok=True)
            made = prepare(recipe, device, steps)
            run = RunSettings(path, recipe.id, steps, recipe.seed, every, 2, ALONE, device)
            train_loop(run, made.method, made.loader, lambda *_: {}, Trackers([]), stop, checkpoint.load_newest(path))
            return made.method.state_dict()

        whole = train("whole", StopRequest())
        train("parts", StopHalfway(steps // 2))
        parts = train("parts", StopRequest())
    for kind in ("model", "ema"):
        for key, value in whole[kind].items():
            if isinstance(value, torch.Tensor):
                require_equal(f"{kind} {key}", value, parts[kind][key])
    return Passed(f"stopped after {steps // 2} of {steps} steps, then on: the same bits")


def check_compiled(mode: str, accumulate: int, device: torch.device, steps: int) -> Passed:
    """The losses with torch.compile against those without."""
    if device.type != "cuda":
        raise NotHere("on a CPU torch.compile takes a minute a net, and CUDA graphs are CUDA's alone")
    return compare_compiled(mode, accumulate, device, steps)


def compare_compiled(
    mode: str, accumulate: int, device: torch.device, steps: int, experiment: str = "smoke_mobile"
) -> Passed:
    overrides = (f"experiment={experiment}", "technique=cutmix", f"update.accumulate={accumulate}")
    eager = train_some(compose(*overrides), device, steps)
    try:
        compiled = train_some(compose(*overrides, f"runtime.compile={mode}"), device, steps)
    except ConfigError as refused:
        return Passed(f"refused: {refused}")
    apart = compare_losses(eager, compiled, TOLERANCE["fp32"])
    return Passed(f"losses of {steps} steps within {apart:.1e} of eager ones", {"difference": apart})


def check_second_device(device: torch.device, steps: int) -> Passed:
    """The same on cuda:1, where code that takes the current device goes wrong; as a library, which sets none, and in
    training."""
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        raise NotHere("needs two CUDA devices")
    other = torch.device("cuda", 1)
    check_crops(other, 32, 40)
    for augmentation in AUGMENTATIONS:
        check_augmentation(augmentation, other, 32, 40)
    check_forms("adamp", other)
    check_training("smoke", "fp64", other, steps)
    return Passed("crops, augmentations, AdamP's forms and training on cuda:1")
