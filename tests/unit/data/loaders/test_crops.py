"""The crop that was drawn reaches the transforms that ask for it: it is the one the pixels were cut with, on whichever
process and by whichever loader, and nothing else of a batch changes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers.image_trees import images, tree
from helpers.trainings import recipe_of
from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.partners import PartnerPlan
from paribus.core.progress import Progress
from paribus.core.protocols import DataSets, DeviceContext, ReportsCrop
from paribus.core.streams import stream
from paribus.data.loaders.in_memory import Images, build_in_memory_sets
from paribus.data.ops import draws, native
from paribus.data.ops.crop_flip import pad_images
from paribus.data.ops.input_spec import InputSpec, PadCrop, ResizedCrop
from paribus.data.ops.resize import resized_crop
from paribus.recipe import build
from paribus.recipe.smoke import build_small
from paribus.techniques.cutmix import CutMix

N, HEIGHT, WIDTH, BATCH = 24, 20, 30, 12
CROPS = {"padded": PadCrop(pad=3), "none": PadCrop(pad=0), "resized": ResizedCrop(size=8, scale=(0.1, 0.8))}


def place(rank: int = 0, world: int = 1, dtype: torch.dtype = torch.float32) -> DeviceContext:
    return DeviceContext(torch.device("cpu"), dtype, rank=rank, world=world)


def in_memory(crop: PadCrop | ResizedCrop, here: DeviceContext) -> tuple[DataSets, Tensor]:
    pixels = torch.randint(0, 256, (N, HEIGHT, WIDTH, 3), generator=stream(0, "crops")).to(torch.uint8)
    made = Images(pixels, torch.arange(N) % 4, torch.arange(N))
    spec = InputSpec((0.0,) * 3, (1 / 255,) * 3, crop, False)  # inputs are grey levels
    return build_in_memory_sets("crops", made, made, 4, spec, here, None, 0), pixels


def cut(pixels: Tensor, crops: Tensor, crop: PadCrop | ResizedCrop) -> Tensor:
    """(b, h, w, c) uint8 pixels of each image's own crop, given as shares: an account with slices."""
    sizes = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    edges = (crops.double() * sizes).round().long()
    assert float((crops.double() * sizes - edges).abs().max()) < 1e-4, "whole pixels"
    if isinstance(crop, PadCrop):
        padded, pad = pad_images(pixels, crop.pad), crop.pad
        return torch.stack(
            [p[y1 + pad : y2 + pad, x1 + pad : x2 + pad] for p, (x1, y1, x2, y2) in zip(padded, edges, strict=True)]
        )
    x1, y1, x2, y2 = edges.unbind(1)
    boxes = torch.stack((y1, x1, y2 - y1, x2 - x1), 1)
    return resized_crop(pixels, torch.arange(len(pixels)), boxes, (crop.size, crop.size))


def loader_of(data: DataSets, reports: bool = True):
    loader = data.loader(BATCH, 3)
    if reports:
        assert isinstance(loader, ReportsCrop)
        loader.report_crop()
    return loader


@pytest.mark.parametrize("kernel", [True, False], ids=["C", "torch"])
@pytest.mark.parametrize("kind", CROPS)
def test_the_crop_is_the_one_that_the_pixels_were_cut_with(
    kind: str, kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel:
        for module in (native, draws):
            monkeypatch.setattr(module, "load_kernels", lambda: None)
    elif native.load_kernels() is None:
        pytest.skip("no C compiler")
    data, pixels = in_memory(CROPS[kind], place())
    for step in (0, 1, 5):
        batch = loader_of(data).batch(step)
        expected = cut(pixels[batch.ids], batch.also["crop"], CROPS[kind])
        assert torch.equal(batch.inputs.round().to(torch.uint8).permute(0, 2, 3, 1), expected)


def test_negative_control_another_samples_crop_is_seen() -> None:
    data, pixels = in_memory(CROPS["resized"], place())
    batch = loader_of(data).batch(0)
    got = batch.inputs.round().to(torch.uint8).permute(0, 2, 3, 1)
    assert not torch.equal(got, cut(pixels[batch.ids], batch.also["crop"].roll(1, 0), CROPS["resized"]))


@pytest.mark.parametrize("kind", CROPS)
def test_nothing_else_of_a_batch_changes(kind: str) -> None:
    data, _ = in_memory(CROPS[kind], place())
    told, untold = (loader_of(data, reports).batch(1) for reports in (True, False))
    assert "crop" not in untold.also
    assert torch.equal(told.inputs, untold.inputs)
    assert torch.equal(told.ids, untold.ids)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("tree"), train=9, sizes=((40, 52), (24, 33)))


def sets_of(kind: str, root: Path) -> Callable[[DeviceContext], DataSets]:
    if kind == "folder":
        return images(root)
    if kind == "workers":
        return images(root, workers=2)
    return lambda here: in_memory(CROPS[kind], here)[0]


@pytest.mark.parametrize("kind", [*CROPS, "folder"])
def test_ranks_have_the_crops_of_one_process_also_of_what_they_fetch(kind: str, root: Path) -> None:
    made = sets_of(kind, root)
    whole = loader_of(made(place())).batch(1)
    assert whole.also["crop"].shape == (BATCH, 4)
    assert len(whole.also["crop"].unique(dim=0)) > (kind != "none") * BATCH // 2
    for rank in range(3):
        loader = loader_of(made(place(rank, 3)))
        part = loader.batch(1)
        assert torch.equal(part.also["crop"], whole.also["crop"][part.positions])
        for asked in ([7, 0, 3], [11, 2, 2, 5], list(range(BATCH))):
            assert torch.equal(part.peers(torch.tensor(asked)).also["crop"], whole.also["crop"][asked])


def test_folder_crops_with_workers_and_partners_ready_are_the_same(root: Path) -> None:
    whole = loader_of(images(root)(place())).batch(1)
    loader = loader_of(sets_of("workers", root)(place(1, 3)))
    loader.prepare_partners(PartnerPlan((CutMix(),), BATCH, 9, 3, 2))
    try:
        part = loader.batch(1)
        assert torch.equal(part.also["crop"], whole.also["crop"][4:8])
        mixed = CutMix()(part, Progress(1, 9, 3, 2))
        assert torch.equal(mixed.also["crop"], part.also["crop"])
    finally:
        loader.close()


def test_folder_crops_are_those_of_the_files_sides(root: Path) -> None:
    """Of files of two sizes: the crop in pixels of each is whole."""
    batch = loader_of(images(root)(place())).batch(0)
    sizes = [((52, 40), (33, 24))[i % 2] for i in batch.ids.tolist()]
    for crop, (width, height) in zip(batch.also["crop"].double(), sizes, strict=True):
        pixels = crop * torch.tensor([width, height, width, height])
        assert torch.allclose(pixels, pixels.round(), atol=1e-4)
        assert 0 <= crop.min() < crop.max() <= 1


def test_crops_are_in_the_inputs_type() -> None:
    data, _ = in_memory(CROPS["resized"], place(dtype=torch.float64))
    assert loader_of(data).batch(0).also["crop"].dtype == torch.float64


class Silent:
    """A loader of the user's own, which knows of no crops."""

    steps_per_epoch = 2

    def batch(self, step: int) -> Batch:
        raise AssertionError


def test_a_loader_that_cannot_say_is_refused_in_one_line() -> None:
    recipe = build_small(("experiment=smoke",), ("relabel",))
    here = place()
    data = replace(recipe.data(here), loader=lambda batch_size, seed: Silent())
    with pytest.raises(
        ConfigError, match=r"^transforms\.relabel: it needs the crop of each training image, and Silent"
    ):
        build.build_loader(recipe, data, here)


def test_nobody_who_does_not_ask_gets_one() -> None:
    recipe = recipe_of("experiment=smoke", techniques=("cutmix",))
    assert not build.build_loader(recipe, recipe.data(place()), place()).batch(0).also


@pytest.mark.parametrize("kind", ["resized", "folder"])
def test_whole_images_are_every_training_sample_once_and_uncropped(kind: str, root: Path) -> None:
    data = sets_of(kind, root)(place())
    assert data.whole is not None
    batches = list(data.whole(10, 16))
    assert torch.cat([b.ids for b in batches]).tolist() == list(range(data.sizes["train"]))
    assert {tuple(b.inputs.shape[2:]) for b in batches} == {(16, 16)}
    if kind == "resized":
        _, pixels = in_memory(CROPS[kind], place())
        box = torch.tensor([[0, 0, HEIGHT, WIDTH]]).expand(10, 4)
        expected = resized_crop(pixels, torch.arange(10), box, (16, 16))
        assert torch.equal(batches[0].inputs.round().to(torch.uint8).permute(0, 2, 3, 1), expected)
    ((side, _),) = {tuple(b.inputs.shape[2:]) for b in data.whole(10, None)}
    assert side == data.spec.height
