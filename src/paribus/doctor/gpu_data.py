"""Does the device draw, crop, change and mix images as the CPU does? Most of it has to agree to the bit."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.core.protocols import DeviceContext, Transform
from paribus.core.streams import stream, uniform
from paribus.data.colour import ColorJitter
from paribus.data.loaders.in_memory import Images, InMemoryLoader, StorageMode
from paribus.data.ops import inputs, resize
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.input_spec import Augmentation, InputSpec, PadCrop, ResizedCrop
from paribus.data.randaugment import RandAugment
from paribus.doctor.gpu_check import Mismatch, Passed, require_close, require_equal
from paribus.engine.prefetch import PrefetchLoader
from paribus.techniques.cutmix import CutMix
from paribus.techniques.cutout import Cutout
from paribus.techniques.erasing import RandomErasing
from paribus.techniques.mixup import Mixup

CPU = torch.device("cpu")
ROUNDED = 1e-6  # of inputs near 1: a GPU may fuse a product and a sum
CROPS = {
    "pad": PadCrop(pad=4),
    "bilinear": ResizedCrop(size=24),
    "bicubic": ResizedCrop(size=24, interpolation="bicubic"),
}
# rule, by how many grey levels a pixel may differ, and which share of pixels: a GPU's cosine differs in its last bit
AUGMENTATIONS: Mapping[str, tuple[Augmentation, int, float]] = {
    "ColorJitter": (ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1), 0, 0.0),
    "RandAugment": (RandAugment(std=0.5, increasing=True), 1, 1e-4),
    "RandAugment, bilinear": (RandAugment(interpolation="bilinear"), 1, 1e-4),
}
TRANSFORMS: Mapping[str, tuple[Transform, float]] = {
    "CutMix": (CutMix(), 0.0),
    "CutMix, a box for each sample": (CutMix(per="sample", box="timm", prob=0.7), 0.0),
    "Mixup": (Mixup(), ROUNDED),
    "Cutout": (Cutout(), 0.0),
    "RandomErasing": (RandomErasing(prob=0.5), 0.0),
}


def make_images(n: int, size: int) -> Tensor:
    """(n, size, size, 3) uint8, every other one of smooth colours: noise hides what a blend gets wrong."""
    generator = stream(0, "doctor.images")
    noise = torch.rand(n, size, size, 3, generator=generator)
    ramp = torch.linspace(0, 1, size)[None, :, None, None] * torch.rand(n, 1, 1, 3, generator=generator)
    return (255 * torch.where((torch.arange(n) % 2 == 0)[:, None, None, None], noise, ramp)).to(torch.uint8)


def check_streams(device: torch.device) -> Passed:
    """Random numbers by sample: the kernel that a CPU uses, and tensor operations on the device."""
    ids = torch.arange(10_000)
    for n in (1, 4, 22):
        require_equal("random numbers", SampleRandom(1, 2, ids)("x", n), uniform(1, "augment.x", 2, ids.to(device), n))
    return Passed("270,000 random numbers, the same bits")


def check_crops(device: torch.device, n: int, size: int) -> Passed:
    """Crop, flip and normalisation of batches, wherever the pixels lie, and the pixels of resized boxes."""
    places: tuple[StorageMode, ...] = ("device", "host", "mapped") if device.type == "cuda" else ("auto",)
    images = make_images(n, size)
    data = Images(images, torch.arange(n) % 10, torch.arange(n))
    for name, crop in CROPS.items():
        spec = InputSpec((0.5,) * 3, (0.25,) * 3, crop, flip=True)
        wanted = InMemoryLoader(data, spec, 10, DeviceContext(CPU), n // 2, 0).batch(1)
        for keep in places:
            got = _load_batch(data, spec, device, n // 2, keep)
            require_equal(f"{name} crops, order", wanted.ids, got.ids)
            require_close(f"{name} crops, data.keep={keep}", wanted.inputs, got.inputs, 10 * ROUNDED)
        if isinstance(crop, ResizedCrop):
            rows = torch.arange(n)
            boxes = crop.boxes(SampleRandom(0, 0, rows), size, size)
            wide = crop.size, crop.size
            here = inputs.resized_crop(images, rows, boxes, wide, crop.interpolation)
            moved = images.to(device), rows.to(device), boxes.to(device)
            there = resize.resized_crop(*moved, wide, crop.interpolation)
            require_equal(f"{name} crops, pixels", here, there)
            require_equal(f"{name} crops, boxes", boxes, crop.boxes(SampleRandom(0, 0, rows.to(device)), size, size))
    return Passed(f"{', '.join(CROPS)}; pixels kept as {', '.join(places)}")


def _load_batch(data: Images, spec: InputSpec, device: torch.device, batch: int, keep: StorageMode) -> Batch:
    return InMemoryLoader(data, spec, 10, DeviceContext(device), batch, 0, keep).batch(1)


def check_augmentation(name: str, device: torch.device, n: int, size: int) -> Passed:
    rule, levels, share = AUGMENTATIONS[name]
    images, ids = make_images(n, size), torch.arange(n)
    here = rule(images, SampleRandom(0, 0, ids), name)
    there = rule(images.to(device), SampleRandom(0, 0, ids.to(device)), name).cpu()
    apart = (here.int() - there.int()).abs()
    differing = float((apart != 0).float().mean())
    if int(apart.max()) > levels or differing > share:
        raise Mismatch(f"{differing:.2%} of the grey levels differ, by up to {int(apart.max())}")
    if torch.equal(here, images):
        raise Mismatch("nothing was changed")
    return Passed(
        f"{n} images at {size} pixels: " + ("the same bits" if not differing else f"{differing:.1e} differ by 1")
    )


def check_transform(name: str, device: torch.device, n: int, size: int) -> Passed:
    """A technique on a batch: targets to the bit, pixels to the bit or to rounding."""
    rule, tolerance = TRANSFORMS[name]
    batch = make_batch(n, size, CPU)
    there = make_batch(n, size, device)
    changed = 0
    for step in range(4):
        at = Progress(step, 10, 0)
        wanted, got = rule(batch, at), rule(there, at)
        require_close("targets", wanted.targets, got.targets, 0.0)
        require_close("pixels", wanted.inputs, got.inputs, tolerance)
        changed += not torch.equal(wanted.inputs, batch.inputs)
    if not changed:
        raise Mismatch("nothing was changed")
    return Passed("the same bits" if not tolerance else "the same to rounding")


def make_batch(n: int, size: int, device: torch.device) -> Batch:
    inputs = torch.rand(n, 3, size, size, generator=stream(0, "doctor.batch"))
    places = torch.arange(n)
    whole = Batch(inputs, places % 10, places, places, n, 10)
    return replace(whole, **{k: v.to(device) for k, v in vars(whole).items() if isinstance(v, Tensor)})


def check_prefetch(device: torch.device, steps: int) -> Passed:
    """Batches made ahead, while a step overwrites and frees memory, are those made in turn."""
    place = DeviceContext(device, memory_format=torch.channels_last)
    n, size = 64, 16
    data = Images(make_images(n, size), torch.arange(n) % 10, torch.arange(n))
    spec = InputSpec((0.5,) * 3, (0.3,) * 3, PadCrop(pad=2), flip=True)
    for keep in ("device", "host") if device.type == "cuda" else ("auto",):
        plain, wrapped = (InMemoryLoader(data, spec, 10, place, 16, 0, keep) for _ in range(2))
        ahead = PrefetchLoader(wrapped, device, steps)
        for step in range(steps):
            batch, wanted = ahead.batch(step), plain.batch(step)
            require_equal(f"inputs of step {step}, data.keep={keep}", wanted.inputs, batch.inputs)
            require_equal(f"targets of step {step}, data.keep={keep}", wanted.targets, batch.targets)
            work = torch.randn(256, 256, device=device)
            for _ in range(10):  # keeps the stream busy, and takes and frees memory of the batch's size
                work = work @ work
                torch.empty_like(batch.inputs).fill_(7.0)
    return Passed(f"{steps} batches, the same bits")
