"""How fast is the device: training steps in each precision, the loop beside the bare step, augmentation, optimizers,
decoding; and whether memory grows from step to step."""

import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from PIL import Image

from paribus.bench.harness.measure import measure
from paribus.bench.harness.timing import make_clock, time_interleaved
from paribus.bench.loop.cases import BARE, LOOP, measure_loop
from paribus.bench.loop.recipes import SMALLEST, load_data, make_subject
from paribus.bench.techniques import optimizers
from paribus.core.formatting import format_bytes, format_duration
from paribus.core.progress import Progress
from paribus.core.protocols import DeviceContext
from paribus.core.streams import stream
from paribus.data.loaders.decode_batch import crop_images
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.input_spec import InputSpec, ResizedCrop
from paribus.data.ops.inputs import InputTransform
from paribus.data.trees.decoding import decode_image
from paribus.doctor.gpu_check import Mismatch, NotHere, Passed, free_memory
from paribus.doctor.gpu_data import AUGMENTATIONS, TRANSFORMS, make_batch, make_images
from paribus.doctor.gpu_optimizers import SHAPES
from paribus.doctor.gpu_steps import Prepared, compose, prepare, runtime_applied, without_files
from paribus.recipe.recipe import Recipe

EPOCH = 16  # steps; at the end of an epoch the host waits for the device
LONG = 100_000  # steps of a training that is timed: its schedule hardly moves
GROWTH = 0.02  # of the memory after 20 steps that those up to the 200th may add


@dataclass(frozen=True)
class TimedNet:
    """title: for people. overrides: of a recipe. batch: images of a step."""

    title: str
    overrides: tuple[str, ...]
    batch: int


NETS = {
    "resnet18": TimedNet("ResNet-18, 32 px", ("experiment=cifar10_resnet18",), 256),
    "resnet50": TimedNet("ResNet-50, 224 px", ("experiment=imagenet_resnet50",), 128),
    "pit_s": TimedNet("PiT-S, 224 px", ("experiment=imagenet_pit_s",), 128),
    "rexnet": TimedNet("ReXNet-1.0, 224 px", ("experiment=imagenet_rexnet",), 128),
}
SMALL_NET = TimedNet("smoke, 12 px", ("experiment=smoke",), 32)

# in the order of what they ask of a reader: the verdict takes the first that is about as fast as the fastest
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "fp32": ("update.precision=fp32", "runtime.tf32=false"),
    "tf32": ("update.precision=fp32", "runtime.tf32=true"),
    "bf16": ("update.precision=bf16", "runtime.tf32=true"),
    "bf16 fused": ("update.precision=bf16", "runtime.tf32=true", "runtime.fused=true"),
    "bf16 fused compiled": ("update.precision=bf16", "runtime.tf32=true", "runtime.fused=true", "runtime.compile=true"),
    "bf16 fused graphs": (
        *("update.precision=bf16", "runtime.tf32=true", "runtime.fused=true"),
        "runtime.compile=reduce-overhead",
    ),
}


def time_steps(net: TimedNet, variant: str, device: torch.device, seconds: float) -> Passed:
    """Images per second of whole steps, the loader's work included."""
    overrides = (*net.overrides, *VARIANTS[variant])
    if device.type != "cuda" and "runtime.compile" in " ".join(overrides):
        raise NotHere("on a CPU torch.compile takes a minute a net")
    batch, rate = net.batch, 0.0
    while not rate:
        try:
            rate = measure_rate(without_files(compose(*overrides), batch, EPOCH * batch), device, seconds)
        except torch.OutOfMemoryError:
            if batch < 16:
                raise
        if not rate:  # out here, where the error no longer holds the tensors
            batch //= 2
            free_memory()
    return Passed(f"{rate:,.0f} images/s, batch {batch}", {"images_per_second": rate, "batch": batch})


def measure_rate(recipe: Recipe, device: torch.device, seconds: float) -> float:
    with runtime_applied(recipe.runtime, device):
        step = NextStep(prepare(recipe, device, LONG))
        clock = make_clock(device)
        clock(step, 5)
        times = max(3, min(2000, round(seconds / max(clock(step, 3) / 3, 1e-6))))
        return recipe.batch_size * times / clock(step, times)


class NextStep:
    """Takes the next step at each call."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared, self._step = prepared, 0

    def __call__(self) -> None:
        self._prepared.take(self._step)
        self._step += 1


def check_memory(net: TimedNet, device: torch.device, early: int, late: int) -> Passed:
    """Allocated memory after some steps and after many."""
    if device.type != "cuda":
        raise NotHere("torch counts memory on CUDA alone")
    recipe = without_files(compose(*net.overrides, "technique=cutmix"), net.batch // 4, EPOCH * net.batch)
    free_memory()
    torch.cuda.reset_peak_memory_stats(device)
    with runtime_applied(recipe.runtime, device):
        step = NextStep(prepare(recipe, device, LONG))
        found: list[int] = []
        for count in (early, late - early):
            for _ in range(count):
                step()
            torch.cuda.synchronize(device)
            found.append(torch.cuda.memory_allocated(device))
        peak = torch.cuda.max_memory_allocated(device)
    numbers = {f"after_{early}": found[0], f"after_{late}": found[1], "peak": peak}
    return Passed(f"{compare_memory(found[0], found[1], early, late)}, peak {format_bytes(peak)}", numbers)


def compare_memory(before: int, after: int, early: int = 20, late: int = 200) -> str:
    """Raises Mismatch if it grows. before, after: bytes."""
    if after > (1 + GROWTH) * before:
        raise Mismatch(f"{format_bytes(before)} after {early} steps, {format_bytes(after)} after {late}: it grows")
    return f"{format_bytes(after)} after {late} steps, {format_bytes(before)} after {early}"


def time_loop_beside_bare(device: torch.device, rounds: int, seconds: float, net: TimedNet | None) -> Passed:
    """The loop, checked to move the weights as plain PyTorch does, and its share of the bare step's rate. net: None is
    the smallest recipe."""
    overrides = SMALLEST[1] if net is None else (*net.overrides, "every.log=50ba")
    overrides, data = load_data((*overrides, f"runtime.device={device.type}"), device)
    recipe = compose(*overrides)
    with runtime_applied(recipe.runtime, device):
        result = measure_loop(
            make_subject(net.title if net else SMALLEST[0], overrides, 0.95, device, data), rounds, seconds
        )
    row = result.row(LOOP)
    if not result.is_correct:
        raise Mismatch(f"the loop moves the weights otherwise than plain PyTorch: off by {row.error:.1e} of the move")
    share = statistics.median(b / a for a, b in zip(row.seconds, result.row(BARE).seconds, strict=True))
    return Passed(f"{share:.1%} of the bare step's rate", {"share": share, "step_seconds": row.median})


def time_device_work(device: torch.device, n: int, size: int, rounds: int) -> Passed:
    """Milliseconds of crops, augmentations and techniques on one batch."""
    images, rows = make_images(n, size).to(device), torch.arange(n)
    draws = SampleRandom(0, 0, rows.to(device))
    batch, at = make_batch(n, size, device), Progress(3, 10, 0)
    rows = rows.to(device)
    timed: dict[str, Callable[[], object]] = {}
    for kind in ("bilinear", "bicubic"):
        spec = InputSpec((0.5,) * 3, (0.25,) * 3, ResizedCrop(size=size, interpolation=kind), flip=True)
        transform = InputTransform(spec, DeviceContext(device))
        timed[f"{kind} crop"] = partial(transform.transform_train, images, rows, draws)
    timed |= {name: partial(rule, images, draws, name) for name, (rule, _, _) in AUGMENTATIONS.items()}
    timed |= {name: partial(rule, batch, at) for name, (rule, _) in TRANSFORMS.items()}
    seconds = time_interleaved(timed, make_clock(device), rounds, 0.01)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    words = ", ".join(f"{name} {format_duration(s)}" for name, s in medians.items())
    return Passed(f"{n} images at {size} px: {words}", medians)


def time_optimizers(name: str, device: torch.device, rounds: int, network: str | None) -> Passed:
    """AdamP (or SGDP), batched and fused, beside torch's fused optimizer, checked first. network: of
    `paribus bench techniques`; None: a few tensors."""
    shapes = optimizers.NETWORKS[network]() if network else SHAPES
    case = optimizers.make_case(name, network or "a few tensors", shapes, "every matrix projected", device)
    own, floor = {"adamp": ("AdamP", "AdamW"), "sgdp": ("SGDP", "SGD")}[name]
    wanted = (f"paribus.{own}", f"paribus.{own}(fused=True)", f"torch.optim.{floor}(fused=True)")
    chosen = tuple(i for i in case.implementations if i.name in wanted)
    result = measure(replace(case, implementations=chosen, targets=()), device, rounds, 0.02)
    wrong = [row for row in result.rows if row.status in ("wrong", "failed")]
    if wrong:
        raise Mismatch("; ".join(f"{row.name}: {row.status}, error {row.error}, {row.note}" for row in wrong))
    medians = {row.name: row.median for row in result.rows if row.seconds}
    words = ", ".join(f"{label} {format_duration(s)}" for label, s in medians.items())
    gigabytes = 28e-9 * sum(s.numel() for s in shapes)  # weight, gradient, two moments read; three of them written
    rates = {f"{label}, GB/s": gigabytes / s for label, s in medians.items()} if name == "adamp" else {}
    return Passed(f"{network or 'a few tensors'}: {words}", {**medians, **rates})


def time_decoding(files: int, seconds: float) -> Passed:
    """JPEGs of ImageNet's usual size decoded, cropped and resized to 224, images per second in one process."""
    encoded = make_jpegs(files)
    crop, out = ResizedCrop(size=224), torch.empty(files, 224, 224, 3, dtype=torch.uint8)
    threads, done = torch.get_num_threads(), 0
    torch.set_num_threads(1)
    try:
        began = time.perf_counter()
        while not done or time.perf_counter() - began < seconds:
            images = [decode_image(io.BytesIO(jpeg)) for jpeg in encoded]  # pyright: ignore[reportArgumentType] — as Pillow
            crop_images(images, crop, SampleRandom(0, done, torch.arange(files)), True, out)
            done += files
        rate = done / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return Passed(f"{rate:,.0f} images/s in one worker", {"images_per_second": rate})


def make_jpegs(files: int) -> list[bytes]:
    """Smooth noise at 500×375, about 40 kB each, a photograph's size in ImageNet being 110 kB."""
    found: list[bytes] = []
    for k in range(files):
        coarse = torch.randint(0, 256, (94, 125, 3), generator=stream(0, "doctor.jpeg", k), dtype=torch.uint8)
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(coarse)).resize((500, 375), Image.Resampling.BILINEAR).save(
            buffer, "JPEG", quality=90
        )
        found.append(buffer.getvalue())
    return found


def recommend(
    rates: Mapping[str, Mapping[str, float]], decode: float | None, cores: int, gain: float = 1.05
) -> list[tuple[str, str]]:
    """For each net, the overrides of the first variant that is within `gain` of the fastest, and the workers that feed
    it from JPEG files. rates: title of a net -> variant -> images per second."""
    lines: list[tuple[str, str]] = []
    for title, measured in rates.items():
        fastest = max(measured.values())
        variant = next(v for v in VARIANTS if v in measured and measured[v] * gain >= fastest)
        words = [o for o in VARIANTS[variant] if o not in VARIANTS["fp32"]]
        if decode:
            workers = -(-measured[variant] // decode)
            enough = workers <= cores
            words.append(f"data.workers={min(workers, cores):.0f}")
            words += [] if enough else [f"(form=folder: {workers:.0f} cores would keep up, {cores} are here; pack it)"]
        lines.append((f"{title}: {variant}, {measured[variant]:,.0f} images/s", " ".join(words)))
    return lines


def list_nets(quick: bool) -> Sequence[TimedNet]:
    return (SMALL_NET,) if quick else tuple(NETS.values())
