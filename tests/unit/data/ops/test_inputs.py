"""Inputs of a batch: the kernel and the tensor operations agree bit for bit, and an image is the same in any batch."""

import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers.native_kernels import mutant, needs_a_compiler
from paribus.core.build import build
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.core.streams import stream, uniform
from paribus.data.loaders.epoch_order import epoch_order
from paribus.data.loaders.in_memory import Images, InMemoryLoader, build_evaluation
from paribus.data.ops import native
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.input_spec import InputSpec, PadCrop, ResizedCrop
from paribus.data.ops.inputs import InputTransform

CPU = torch.device("cpu")
MEAN, STD = (0.49, 0.48, 0.44, 0.3), (0.24, 0.23, 0.22, 0.3)
CROPS = {
    "none": PadCrop(pad=0),
    "pad": PadCrop(pad=4),
    "pad more than the image": PadCrop(pad=13),
    "resized": ResizedCrop(size=16),
    "bicubic": ResizedCrop(size=33, interpolation="bicubic", scale=(0.05, 1.0)),
}


def look(crop: PadCrop | ResizedCrop, flip: bool = True, channels: int = 3, **more) -> InputSpec:
    return InputSpec(MEAN[:channels], STD[:channels], crop, flip, **more)


def pixels(n: int, height: int, width: int, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (n, height, width, channels), generator=stream(0, "test.pixels")).to(torch.uint8)


def both(made: InputSpec, images: Tensor, memory_format: torch.memory_format) -> tuple[Tensor, Tensor]:
    """Inputs by the kernel and by tensor operations."""
    rows = torch.arange(41) % len(images)
    draws = SampleRandom(5, 7, rows + 1000, torch.arange(41) // len(images) if made.repeats > 1 else None)
    kernel, reference = (InputTransform(made, DeviceContext(CPU, memory_format=memory_format)) for _ in range(2))
    assert kernel._native
    reference._native = False
    return kernel.transform_train(images, rows, draws), reference.transform_train(images, rows, draws)


@needs_a_compiler
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_kernel_and_tensor_operations_agree_bit_for_bit(crop: str, channels: int) -> None:
    for height, width in ((32, 32), (12, 12), (7, 11)):
        images = pixels(20, height, width, channels)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            for flip in (True, False):
                made = look(CROPS[crop], flip, channels, repeats=2 if flip else 1)
                got, wanted = both(made, images, memory_format)
                assert torch.equal(got, wanted)
                assert got.is_contiguous(memory_format=memory_format)


@needs_a_compiler
def test_the_kernel_without_vector_units_and_on_two_threads_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases = [(look(crop), pixels(60, 40, 40), torch.channels_last) for crop in CROPS.values()]
    wanted = [both(*case)[0] for case in cases]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    native.load_kernels.cache_clear()
    torch.set_num_threads(2)
    try:
        assert all(torch.equal(both(*case)[0], made) for case, made in zip(cases, wanted, strict=True))
    finally:
        native.load_kernels.cache_clear()
        torch.set_num_threads(1)


@needs_a_compiler
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value * scale[j] + shift[j]", "value * scale[j] - shift[j]"),
        ("job->flip) < 0.5f;\n    }", "job->flip) < 0.6f;\n    }"),
        ("(int64_t)(drawn(sample, 1) * places)", "(int64_t)(drawn(sample, 2) * places)"),
        ("memset(made + to * channels, 0, (width - to) * channels);", ""),
    ],
)
def test_negative_control_a_mutant_of_the_kernel_is_noticed(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with mutant("_SOURCE", old, new, monkeypatch, tmp_path):
        assert not torch.equal(*both(look(CROPS["pad"]), pixels(40, 32, 32), torch.channels_last))


def test_without_a_compiler_tensor_operations_do_it_after_one_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images, rows = pixels(9, 8, 8), torch.arange(9)
    wanted = InputTransform(look(CROPS["pad"]), DeviceContext(CPU)).transform_train(
        images, rows, SampleRandom(0, 0, rows)
    )
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("PARIBUS_CACHE", str(tmp_path))
    native.load_kernels.cache_clear()
    try:
        with pytest.warns(UserWarning, match="fastest with a C compiler .*no-such-compiler"):
            made = InputTransform(look(CROPS["pad"]), DeviceContext(CPU))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = made.transform_train(images, rows, SampleRandom(0, 0, rows))
    finally:
        native.load_kernels.cache_clear()
    assert not made._native
    assert torch.equal(got, wanted)


def test_images_that_lie_otherwise_in_memory_give_the_same_inputs() -> None:
    images = pixels(9, 8, 6)
    strided = images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    inputs, rows = InputTransform(look(CROPS["pad"]), DeviceContext(CPU)), torch.arange(9)
    wanted = inputs.transform_train(images, rows, SampleRandom(0, 0, rows))
    assert torch.equal(inputs.transform_train(strided, rows, SampleRandom(0, 0, rows)), wanted)
    assert torch.equal(inputs.transform_eval(strided), inputs.transform_eval(images))


# Draws and orders


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10**6), n=st.integers(1, 25), copies=st.booleans())
def test_draws_are_the_stream_of_their_name(seed: int, epoch: int, n: int, copies: bool) -> None:
    ids = torch.randint(2**39, (13,), generator=stream(0, "test.draws"))
    again = torch.arange(13) if copies else None
    wanted = uniform(seed, "augment.x", epoch, ids + (torch.arange(13) * 2**40 if copies else 0), n)
    assert torch.equal(SampleRandom(seed, epoch, ids, again)("x", n), wanted)


@settings(max_examples=25, deadline=None)
@given(crop=st.sampled_from(list(CROPS)), parts=st.lists(st.integers(1, 10), min_size=1, max_size=5))
def test_an_image_is_the_same_in_any_batch(crop: str, parts: list[int]) -> None:
    images, n = pixels(30, 14, 14), sum(parts)
    inputs = InputTransform(look(CROPS[crop]), DeviceContext(CPU))
    rows = torch.randperm(30, generator=stream(0, "test.rows"))[:n]
    rows = rows if len(rows) == n else torch.arange(n) % 30
    whole = inputs.transform_train(images, rows, SampleRandom(1, 2, rows))
    split = [inputs.transform_train(images, part, SampleRandom(1, 2, part)) for part in rows.split(parts)]
    assert torch.equal(torch.cat(split), whole)


def test_an_epoch_repeats_each_sample_in_a_row() -> None:
    rows, copies = epoch_order(10, seed=3, epoch=1, repeats=3)
    once, none = epoch_order(10, seed=3, epoch=1)
    assert none is None
    assert copies is not None
    assert rows.tolist() == [int(once[i // 3]) for i in range(10)]
    assert copies.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_copies_of_a_sample_are_augmented_each_in_its_own_way_on_any_rank() -> None:
    data = Images(pixels(12, 8, 8), torch.arange(12) % 3, torch.arange(12))
    made = look(PadCrop(pad=4), repeats=3)
    whole = InMemoryLoader(data, made, 3, DeviceContext(CPU), 6, 0).batch(1)
    assert len(set((whole.ids % 2**40).tolist())) == 2
    assert len(set(whole.ids.tolist())) == 6
    assert not torch.equal(whole.inputs[0], whole.inputs[1])
    parts = [InMemoryLoader(data, made, 3, DeviceContext(CPU, rank=rank, world=2), 6, 0).batch(1) for rank in range(2)]
    assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)
    assert torch.equal(parts[0].peers(torch.tensor([5, 0])).inputs, whole.inputs[[5, 0]])


# Boxes


def by_torchvision(rule: ResizedCrop, numbers: list[float], height: int, width: int, monkeypatch) -> list[int]:
    """The box that torchvision's rule takes when its generator draws these numbers: 10 pairs, then the corner."""
    from torchvision.transforms import RandomResizedCrop, transforms

    tries, corner = iter(numbers[:20]), iter(numbers[20:])

    class Empty:
        def uniform_(self, low: float, high: float) -> Tensor:
            return torch.as_tensor(low + next(tries) * (high - low), dtype=torch.float64)

    class Torch:
        log, exp = torch.log, torch.exp
        tensor = staticmethod(lambda values: torch.tensor(values, dtype=torch.float64))  # torchvision's is float32
        empty = staticmethod(lambda _: Empty())
        randint = staticmethod(lambda low, high, size: torch.tensor(int(next(corner) * high)))

    with monkeypatch.context() as patch:
        patch.setattr(transforms, "torch", Torch)
        image = torch.empty(3, height, width)
        return [int(v) for v in RandomResizedCrop.get_params(image, list(rule.scale), list(rule.ratio))]  # type: ignore[arg-type]


@pytest.mark.parametrize(("height", "width"), [(160, 160), (375, 500), (20, 90), (90, 20)])
def test_boxes_are_torchvisions(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, draws = ResizedCrop(size=8, scale=(0.08, 1.0)), SampleRandom(0, 0, torch.arange(100))
    numbers = draws("resized_crop", 22).double().tolist()
    wanted = [by_torchvision(rule, row, height, width, monkeypatch) for row in numbers]
    got = rule.boxes(draws, height, width)
    assert got.tolist() == wanted
    assert len({tuple(box) for box in wanted}) > 10
    other = ResizedCrop(size=8, scale=(0.08, 0.9))
    assert other.boxes(draws, height, width).tolist() != wanted


def test_an_image_too_long_for_every_try_gives_its_centre() -> None:
    rule = ResizedCrop(size=8, scale=(1.0, 1.0), ratio=(3 / 4, 4 / 3))
    boxes = rule.boxes(SampleRandom(0, 0, torch.arange(2)), torch.tensor([10, 300]), torch.tensor([300, 10]))
    assert boxes[0].tolist() == [0, 143, 10, 13]  # as torchvision: width round(10 · 4/3), (300 − 13) // 2
    assert boxes[1].tolist() == [143, 0, 13, 10]


def test_a_range_upside_down_is_refused_in_one_line() -> None:
    node = {"_target_": "paribus.data.ops.input_spec.ResizedCrop", "size": 8, "scale": [1.0, 0.08]}
    with pytest.raises(ConfigError, match=r"data.crop: scale: found \[1.0, 0.08\]; the first must not be greater"):
        build(node, "data.crop")


# Where the pixels lie


@pytest.mark.parametrize("keep", ["auto", "device", "host", "mapped"])
def test_a_subset_of_a_mapped_file_gives_the_same_batches(keep: str, tmp_path: Path) -> None:
    images = pixels(30, 10, 10)
    (tmp_path / "images").write_bytes(images.numpy().tobytes())
    mapped = torch.from_file(str(tmp_path / "images"), size=images.numel(), dtype=torch.uint8).view(images.shape)
    index = torch.arange(3, 30, 2)
    plain = Images(images[index], index % 5, index)
    subset = Images(mapped, torch.arange(30) % 5, torch.arange(30)).select(index)
    made = look(ResizedCrop(size=6))
    a, b = (InMemoryLoader(d, made, 5, DeviceContext(CPU), 7, 1, keep).batch(1) for d in (plain, subset))
    assert torch.equal(a.inputs, b.inputs)
    assert torch.equal(a.ids, b.ids)
    assert torch.equal(a.targets, b.targets)
    halves = build_evaluation(subset, made, 5, DeviceContext(CPU), keep, eval_transform=lambda part: part[:, 2:8, 2:8])
    seen = list(halves(4))
    assert torch.cat([part.ids for part in seen]).tolist() == index.tolist()
    assert seen[0].inputs.shape == (4, 3, 6, 6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("crop", CROPS)
def test_on_cuda_batches_are_the_same_wherever_the_pixels_lie(crop: str) -> None:
    data = Images(pixels(30, 14, 14), torch.arange(30) % 5, torch.arange(30))
    wanted = InMemoryLoader(data, look(CROPS[crop]), 5, DeviceContext(CPU), 8, 0).batch(2)
    for keep in ("device", "host", "mapped"):
        got = InMemoryLoader(data, look(CROPS[crop]), 5, DeviceContext(torch.device("cuda")), 8, 0, keep).batch(2)
        assert torch.equal(got.ids.cpu(), wanted.ids)
        assert torch.allclose(got.inputs.cpu(), wanted.inputs, atol=1e-6)
