"""The checks of `paribus doctor gpu`, in the order in which they run: the cheap and telling ones first."""

from functools import partial

import torch

from paribus.doctor import gpu_data, gpu_optimizers, gpu_processes, gpu_times, gpu_training, gpu_waits
from paribus.doctor.gpu_check import GpuCheck
from paribus.recipe.configs import list_options


def list_checks(device: torch.device, quick: bool) -> list[GpuCheck]:
    """quick: the smallest sizes, and for waits and times the smoke recipes alone."""
    return [*list_correct(device, quick), *list_waits(device, quick), *list_times(device, quick)]


def list_correct(device: torch.device, quick: bool) -> list[GpuCheck]:
    """What has to agree with the CPU, or with itself."""
    n, size, steps = (24, 40, 4) if quick else (128, 64, 20)
    checks = [
        GpuCheck("correct", "random numbers", 1, partial(gpu_data.check_streams, device)),
        GpuCheck("correct", "crops", 4, partial(gpu_data.check_crops, device, n, size)),
    ]
    for name in gpu_data.AUGMENTATIONS:
        checks.append(GpuCheck("correct", name, 3, partial(gpu_data.check_augmentation, name, device, n, size)))
    for name in gpu_data.TRANSFORMS:
        checks.append(GpuCheck("correct", name, 1, partial(gpu_data.check_transform, name, device, n, size)))
    for name in ("adamp", "sgdp"):
        label = gpu_optimizers.CLASSES[name].__name__
        checks += [
            GpuCheck("correct", f"{label}, all forms", 8, partial(gpu_optimizers.check_forms, name, device)),
            GpuCheck("correct", f"{label}, graph replay", 3, partial(gpu_optimizers.check_graph, name, device)),
        ]
    for experiment in gpu_training.EXPERIMENTS:
        is_main = experiment == gpu_training.EXPERIMENTS[0] or not quick
        for precision in gpu_training.PRECISIONS if is_main else gpu_training.PRECISIONS[:1]:
            run = partial(gpu_training.check_training, experiment, precision, device, steps)
            checks.append(GpuCheck("correct", f"{experiment} in {precision}, {steps} steps", 3, run))
        if is_main:
            run = partial(gpu_training.check_deterministic, experiment, device, steps)
            checks.append(GpuCheck("correct", f"{experiment} twice, deterministic", 3, run))
    resumed = gpu_training.EXPERIMENTS[0 if quick else 1]
    checks += [
        GpuCheck("correct", "prefetch", 2, partial(gpu_data.check_prefetch, device, steps)),
        GpuCheck("correct", "stop and resume", 3, partial(gpu_training.check_resume, resumed, device, steps)),
        GpuCheck("correct", "the second device", 10, partial(gpu_training.check_second_device, device, steps)),
        GpuCheck("correct", "kill and resume", 40, partial(gpu_processes.check_kill, device)),
        GpuCheck("correct", "two ranks", 30, partial(gpu_processes.check_two_ranks, device)),
    ]
    for mode in gpu_training.COMPILE_MODES:
        for accumulate in (1, 2):
            run = partial(gpu_training.check_compiled, mode, accumulate, device, steps)
            checks.append(GpuCheck("correct", f"compile={mode}, accumulate={accumulate}", 25, run))
    return checks


def list_waits(device: torch.device, quick: bool) -> list[GpuCheck]:
    """Every recipe with every technique that fits it, the smallest recipes first."""
    smoke = list(gpu_training.EXPERIMENTS)
    experiments = smoke[:1] if quick else [*smoke, *(name for name in list_options("experiment") if name not in smoke)]
    steps, batch = (2, 8) if quick else (20, 16)
    techniques = ("baseline", *(name for name in list_options("technique") if name != "baseline"))
    return [
        GpuCheck("waits", name, 5, partial(gpu_waits.check_waits, name, techniques, device, steps, batch, 5.0))
        for name in experiments
    ]


def list_times(device: torch.device, quick: bool) -> list[GpuCheck]:
    """Eager variants of all nets, then what they consist of, then the compiled ones, which take the longest."""
    nets, seconds, rounds = gpu_times.list_nets(quick), 0.05 if quick else 1.5, 2 if quick else 5
    variants = list(gpu_times.VARIANTS)[:2] if quick else list(gpu_times.VARIANTS)

    def timed(net: gpu_times.TimedNet, variant: str) -> GpuCheck:
        run = partial(gpu_times.time_steps, net, variant, device, seconds)
        cost = (60 if net.batch < 256 else 25) if "compile" in " ".join(gpu_times.VARIANTS[variant]) else 6
        return GpuCheck("times", f"{net.title}: {variant}", cost, run)

    compiled = {v for v in variants if "compile" in " ".join(gpu_times.VARIANTS[v])}
    network = None if quick else "PiT-S"
    small, large = (16, 32) if quick else (256, 224)
    loops = [None] if quick else [None, nets[0]]
    return [
        *(timed(net, variant) for net in nets for variant in variants if variant not in compiled),
        *(
            GpuCheck(
                "times",
                f"{net.title if net else 'smoke'}: loop beside the bare step",
                15,
                partial(gpu_times.time_loop_beside_bare, device, rounds, seconds / 5, net),
            )
            for net in loops
        ),
        GpuCheck("times", "images a batch", 10, partial(gpu_times.time_device_work, device, small, large, rounds)),
        *(
            GpuCheck("times", f"{name}'s step", 8, partial(gpu_times.time_optimizers, name, device, rounds, network))
            for name in ("adamp", "sgdp")
        ),
        GpuCheck("times", "decoding", 3, partial(gpu_times.time_decoding, 4 if quick else 16, seconds)),
        *(
            GpuCheck("times", f"{net.title}: memory", 30, partial(gpu_times.check_memory, net, device, 20, 200))
            for net in nets[:2]
        ),
        *(timed(net, variant) for variant in variants if variant in compiled for net in nets),
    ]
