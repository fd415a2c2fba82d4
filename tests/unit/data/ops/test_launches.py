"""Augmentation on a GPU, counted without one (helpers/launches.py): ceilings on launches and bytes, and no waits.

Of Triton's kernels only the launches are counted: what one moves is not seen from outside."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers.launches import META, Launches
from paribus.core.protocols import DeviceContext
from paribus.data import colour, randaugment
from paribus.data.colour import ColorJitter
from paribus.data.images import build_center_crop
from paribus.data.loaders.in_memory import Images, InMemoryLoader, build_evaluation
from paribus.data.ops import color
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.input_spec import InputSpec, PadCrop, ResizedCrop
from paribus.data.ops.inputs import InputTransform
from paribus.data.randaugment import RandAugment

PLACE = DeviceContext(META, memory_format=torch.channels_last)
JITTER = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
AUGMENT = {"rand": RandAugment(std=0.5, increasing=True), "jitter": JITTER}


def pixels(n: int, side: int) -> Tensor:
    return torch.empty(n, side, side, 3, dtype=torch.uint8, device=META)


def spec(crop: PadCrop | ResizedCrop, **more) -> InputSpec:
    return InputSpec((0.5,) * 3, (0.25,) * 3, crop, flip=True, **more)


def cost(work: Callable[[SampleRandom], object], n: int = 256, known: bool = True) -> Launches:
    """known: the host knows the batch's ids, as it does in all loaders."""
    ids = torch.arange(n)
    draws = SampleRandom(0, 0, ids, device=META) if known else SampleRandom(0, 0, ids.to(META))
    with Launches() as counted:
        work(draws)
    return counted


def augmented(rule: RandAugment | ColorJitter) -> Callable[[SampleRandom], object]:
    return lambda draws: rule(pixels(256, 224), draws, "x")


def cropped(interpolation: str) -> Callable[[SampleRandom], object]:
    inputs = InputTransform(spec(ResizedCrop(size=224, interpolation=interpolation)), PLACE)  # type: ignore[arg-type]
    return lambda draws: inputs.transform_train(pixels(256, 256), torch.arange(256, device=META), draws)


# of 256 images at 224 pixels: (launches, GB), a little above what was counted
BY_TENSORS = {
    "RandAugment twice, bicubic": (augmented(AUGMENT["rand"]), 730, 36),
    "RandAugment twice, bilinear": (augmented(replace(AUGMENT["rand"], interpolation="bilinear")), 490, 10.5),
    "ColorJitter with hue": (augmented(JITTER), 590, 31),
    "packed ResizedCrop, bicubic": (cropped("bicubic"), 455, 12),
    "packed ResizedCrop, bilinear": (cropped("bilinear"), 350, 9),
}


@pytest.mark.parametrize("name", BY_TENSORS)
def test_tensor_operations_stay_under_their_ceiling_and_wait_for_nothing(name: str) -> None:
    work, launches, gigabytes = BY_TENSORS[name]
    counted = cost(work)
    assert counted.waits == []
    assert counted.launches <= launches
    assert counted.bytes / 1e9 <= gigabytes


@pytest.mark.parametrize("name", BY_TENSORS)
def test_ids_that_only_the_device_knows_cost_more_and_no_wait(name: str) -> None:
    work = BY_TENSORS[name][0]
    unknown = cost(work, known=False)
    assert unknown.waits == []
    assert unknown.bytes > 1.5 * cost(work).bytes


class Kernel:
    """In the place of a Triton kernel: counts its launches."""

    def __init__(self) -> None:
        self.grids: list[tuple[int, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *args, **kwargs: self.grids.append(grid)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(("rule", "ceiling"), [(AUGMENT["rand"], 12), (JITTER, 20)])
@pytest.mark.parametrize("known", [True, False])
def test_tritons_kernels_are_a_few_launches(
    rule: RandAugment | ColorJitter, ceiling: int, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paribus.data.ops import color_triton

    kernels = {name: Kernel() for name in ("_count", "_build_tables", "_change")}
    for name, kernel in kernels.items():
        monkeypatch.setattr(color_triton, name, kernel)
    for module in (randaugment, colour):
        monkeypatch.setattr(module, "choose_kernel", lambda images: color_triton.apply_operations)
    counted = cost(augmented(rule), known=known)
    launched = [grid for kernel in kernels.values() for grid in kernel.grids]
    assert counted.waits == []
    assert launched
    if known:  # else the parameters are computed on the device as well
        assert counted.launches + len(launched) <= ceiling
        assert counted.bytes < 1e8  # of images nothing goes through tensor operations


def test_hue_waits_for_no_table() -> None:
    with Launches() as counted:
        color.hue(pixels(2, 8), torch.zeros(2, device=META))
    assert counted.waits == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [40, "of each image"])
def test_boxes_wait_for_no_size(known: bool, size: int | str) -> None:
    sizes = size if isinstance(size, int) else torch.full((4,), 40, device="cpu" if known else META)
    counted = cost(lambda draws: ResizedCrop(size=8).boxes(draws, sizes, sizes), 4, known)
    assert counted.waits == []


@pytest.mark.parametrize(("crop", "repeats"), [(PadCrop(pad=4), 1), (ResizedCrop(size=16), 3)])
def test_no_wait_in_batches_of_two_epochs(crop: PadCrop | ResizedCrop, repeats: int) -> None:
    data = Images(torch.zeros(24, 32, 32, 3, dtype=torch.uint8), torch.arange(24) % 3, torch.arange(24))
    loader = InMemoryLoader(data, spec(crop, augment=AUGMENT, repeats=repeats), 3, PLACE, 8, 0, keep="device")
    with Launches() as counted:
        batches = [loader.batch(step) for step in range(4)]  # 3 an epoch
    assert all(batch.inputs.is_meta for batch in batches)
    assert counted.launches > 10
    assert counted.waits == []


def test_no_wait_for_the_partners_on_another_rank() -> None:
    data = Images(torch.zeros(24, 32, 32, 3, dtype=torch.uint8), torch.arange(24) % 3, torch.arange(24))
    place = replace(PLACE, rank=1, world=2)
    loader = InMemoryLoader(data, spec(PadCrop(pad=4), augment=AUGMENT), 3, place, 8, 0, keep="device")
    batch = loader.batch(0)
    with Launches() as counted:
        assert batch.peers(torch.empty(4, dtype=torch.int64, device=META)).inputs.is_meta
    assert counted.waits == []


def test_no_wait_in_the_batches_of_an_evaluation() -> None:
    data = Images(torch.zeros(24, 32, 32, 3, dtype=torch.uint8), torch.arange(24) % 3, torch.arange(24))
    batches = build_evaluation(data, spec(PadCrop(pad=0)), 3, PLACE, "device", build_center_crop(16, 0.875, "bicubic"))
    with Launches() as counted:
        assert sum(len(batch) for batch in batches(7)) == 24
    assert counted.launches > 10
    assert counted.waits == []
