"""data.channels: grey, RGB and RGBA from folders, packs and a user's own class, through augmentation and networks."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.image_trees import images, picture, tree
from helpers.packs import QUIET
from helpers.trainings import composed, recipe_of
from paribus.core.batch import Batch
from paribus.core.build import build
from paribus.core.errors import ConfigError
from paribus.core.generation import Generates
from paribus.core.progress import Progress
from paribus.core.protocols import DataSets, DeviceContext, Spec
from paribus.core.streams import stream
from paribus.data.colour import ColorJitter
from paribus.data.images import ImageSet
from paribus.data.loaders.decode_batch import crop_images
from paribus.data.ops import draws as draws_module
from paribus.data.ops import native
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.input_spec import InputSpec, PadCrop, ResizedCrop
from paribus.data.ops.inputs import InputTransform
from paribus.data.packs.format import default_folder
from paribus.data.packs.open import open_pack
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.data.packs.write import ProgressSink
from paribus.data.randaugment import RandAugment
from paribus.data.trees.decoding import to_channels
from paribus.data.wrapped import DatasetSource
from paribus.models.timm_adapter import Timm
from paribus.recipe.configs import list_options
from paribus.recipe.identity import hash_recipe

PLACE = DeviceContext(torch.device("cpu"))
AUGMENT = {"jitter": ColorJitter(brightness=0.4, saturation=0.4, hue=0.1), "rand": RandAugment(prob=1.0)}


def rgba_tree(root: Path, size: int = 24) -> Path:
    """Squares with colours and a smooth alpha."""
    tree(root, classes=2, train=5, val=3, sizes=((size, size),))
    for path in root.rglob("*.png"):
        image = Image.open(path).convert("RGB")
        image.putalpha(picture(f"alpha {path.name}", size, size).convert("L"))
        image.save(path)
    return root


def everything(data: DataSets) -> list[Tensor]:
    loader = data.loader(4, 3)
    train = [loader.batch(step).inputs for step in range(3)]
    return [*train, *(batch.inputs for batch in data.splits["val"](4))]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_folder_and_pack_give_the_same_bits(tmp_path: Path, channels: int) -> None:
    root = rgba_tree(tmp_path)
    record = prepare(PrepareRequest("folder", root, size=24, channels=channels), QUIET)
    assert record.channels == channels
    common: dict[str, Any] = {"channels": channels, "augment": AUGMENT}
    packed = ImageSet(name="folder", root=str(root), size=16, pack_size=24, **common)(PLACE)
    folder = images(root, **common)(PLACE)
    assert packed.spec == folder.spec == Spec(2, channels, 16, 16)
    ours, theirs = everything(packed), everything(folder)
    assert all(map(torch.equal, ours[:3], theirs[:3]))  # in evaluation the pack starts from its square
    assert all(part.shape[1:] == (channels, 16, 16) for part in ours + theirs)
    with_kernels = everything(images(root, workers=2, **common)(PLACE))
    assert all(map(torch.equal, theirs, with_kernels))


def test_a_pack_of_other_channels_is_refused_and_remade_in_words(tmp_path: Path) -> None:
    root, out = rgba_tree(tmp_path / "tree"), tmp_path / "pack"
    prepare(PrepareRequest("folder", root, size=24, out=out), QUIET)
    assert "channels" not in json.loads((out / "pack.json").read_text())  # as an earlier paribus wrote it
    grey = ImageSet(name="folder", root=str(root), size=16, pack_size=24, pack=str(out), channels=1)
    with pytest.raises(ConfigError) as refused:
        grey(PLACE)
    assert str(refused.value) == (
        f"data.channels: found 1; the pack {out} has 3 channels; choose another folder, or make it again with: "
        f"paribus data prepare folder --root {root} --size 24 --channels 1 --out {out}"
    )
    said = list[str]()
    sink = ProgressSink(said.append, lambda total, done: lambda more: None)
    assert prepare(PrepareRequest("folder", root, size=24, out=out, channels=1), sink).channels == 1
    assert f"{out} is a pack of 3 channels; it is made again with 1 channel" in said
    assert everything(grey(PLACE))[0].shape[1] == 1
    assert open_pack(out, "folder", 24, root, 1).rule["decoded"].endswith("made grey by Pillow's L")
    assert default_folder(root, "folder", 24, 1) != default_folder(root, "folder", 24)
    with pytest.raises(ConfigError, match=r"no pack of folder at 24 pixels and 4 channels in .*-c4; .* --channels 4$"):
        replace(grey, pack=None, channels=4)(PLACE)


def test_mean_and_std_have_a_number_for_each_channel(tmp_path: Path) -> None:
    specs = {channels: images(tmp_path, channels=channels).file_preprocessing().input_spec for channels in (1, 3, 4)}
    assert [len(spec.mean) for spec in specs.values()] == [1, 3, 4]
    assert specs[4].mean == (*specs[3].mean, 0.0)
    assert specs[4].std == (*specs[3].std, 1.0)
    assert specs[1].mean[0] == pytest.approx(sum(specs[3].mean) / 3, abs=1e-3)
    assert specs[1].std[0] == pytest.approx(sum(specs[3].std) / 3, abs=1e-3)
    with pytest.raises(ValueError, match=r"mean: found 3 numbers; channels=1 needs one for each channel"):
        images(tmp_path, channels=1, mean=(0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match=r"std: found 1 number; channels=4 needs one for each channel"):
        images(tmp_path, channels=4, std=(0.1,))
    with pytest.raises(ValueError, match="1, 3 or 4"):
        images(tmp_path, channels=2)


def test_the_id_of_a_recipe_of_three_channels_has_none() -> None:
    usual = recipe_of("data=folder", "data.root=x")
    assert "channels" not in usual.computed["data"]
    assert "sampling" not in usual.computed["data"]
    grey = recipe_of("data=folder", "data.root=x", "data.channels=1")
    assert grey.computed["data"]["channels"] == 1
    assert grey.id != usual.id
    assert hash_recipe(usual.computed) == usual.id
    # of a set whose channels are as old as the set they stay
    assert recipe_of("data=synthetic").computed["data"]["channels"] == 3


def pixels(channels: int, n: int = 12, side: int = 20) -> Tensor:
    return torch.randint(0, 256, (n, side, side, channels), generator=stream(0, "test.channels")).to(torch.uint8)


@pytest.mark.parametrize("name", AUGMENT)
def test_augmentations_change_colours_as_without_alpha_and_no_alpha(name: str) -> None:
    both, augmentation = pixels(4), AUGMENT[name]
    draws = SampleRandom(0, 0, torch.arange(len(both)))
    got = augmentation(both, draws, name)
    assert torch.equal(got[..., :3], augmentation(both[..., :3].contiguous(), draws, name))
    assert not torch.equal(got[..., :3], both[..., :3])
    if name == "jitter":
        assert torch.equal(got[..., 3], both[..., 3])


def test_alpha_moves_with_the_colours_and_is_nought_where_nothing_is_left() -> None:
    """An image whose alpha is its red: after any move of all of it, it still is, and what comes in is transparent."""
    both = pixels(4)
    both[..., 3] = both[..., 0]
    mover = RandAugment(ops=1, prob=1.0, fill=(0, 0, 0), magnitude=9)
    draws = SampleRandom(0, 0, torch.arange(len(both)))
    which, level, sign = mover.sample_parameters(draws, "rand", 0)
    moved = replace(mover, fill=(0, 9, 9)).apply_operation(both, torch.full_like(which, 11), level, sign)  # shear
    assert torch.equal(moved[..., 3], moved[..., 0])
    assert not torch.equal(moved, both)
    stays = mover.apply_operation(both, torch.full_like(which, 2), level, sign)  # invert
    assert torch.equal(stays[..., 3], both[..., 3])
    assert torch.equal(stays[..., 0], 255 - both[..., 0])


def test_one_channel_has_no_saturation_and_no_hue_and_keeps_the_rest() -> None:
    grey = pixels(1)
    draws = SampleRandom(0, 0, torch.arange(len(grey)))
    assert torch.equal(ColorJitter(saturation=0.9, hue=0.5)(grey, draws, "x"), grey)
    three = ColorJitter(brightness=0.5, contrast=0.5)(grey.expand(-1, -1, -1, 3).contiguous(), draws, "x")
    assert torch.equal(ColorJitter(brightness=0.5, contrast=0.5)(grey, draws, "x"), three[..., :1])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("crop", [PadCrop(pad=3), ResizedCrop(size=16)], ids=["pad", "resized"])
def test_every_channel_is_cropped_like_the_others(channels: int, crop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernels and without: each channel is what it would be alone, in training, files and evaluation."""
    stored, rows = pixels(channels), torch.arange(6)
    draws = SampleRandom(0, 1, torch.arange(6))
    numbers = {"mean": (0.5,) * 4, "std": (0.25,) * 4}

    def made(of: Tensor) -> Tensor:
        c = of.shape[3]
        spec = InputSpec(numbers["mean"][:c], numbers["std"][:c], crop, True)
        return InputTransform(spec, PLACE).transform_train(of, rows, draws)

    got = made(stored)
    alone = torch.cat([made(stored[..., k : k + 1].contiguous()) for k in range(channels)], 1)
    assert torch.equal(got, alone)
    files = torch.empty(6, 16, 16, channels, dtype=torch.uint8)
    if isinstance(crop, ResizedCrop):
        modes = {1: "L", 3: "RGB", 4: "RGBX"}
        opened = [Image.frombytes(modes[channels], (20, 20), each.numpy().tobytes()) for each in stored[:6]]
        crop_images(opened, crop, draws, True, files)
    for module in (native, draws_module):
        monkeypatch.setattr(module, "load_kernels", lambda: None)
    assert torch.equal(got, made(stored))
    if isinstance(crop, ResizedCrop):
        again = torch.empty_like(files)
        crop_images(opened, crop, draws, True, again)  # Pillow's
        assert torch.equal(files, again)


class Given:
    """A dataset of one image."""

    targets = (0,)

    def __init__(self, image: Any) -> None:
        self.image = image

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.image, 0


def test_a_class_of_ones_own_gives_pictures_arrays_or_tensors_of_any_channels() -> None:
    rgba = np.random.default_rng(1).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    for source in (rgba, rgba[..., :3], rgba[..., :1], rgba[..., 0]):
        kinds = [source, torch.from_numpy(np.ascontiguousarray(source))]
        if source.ndim == 3:
            kinds[1] = kinds[1].permute(2, 0, 1)
            kinds[1:] += [Image.fromarray(source if source.shape[2] > 1 else source[..., 0])]
        for kind in kinds:
            for channels in (1, 3, 4):
                if not isinstance(kind, Image.Image) and source.shape[-1] == 4 and channels != 4:
                    with pytest.raises(ConfigError, match=r"expected one or three channels$"):
                        DatasetSource("x", "train", Given(kind), channels).image(0)
                    continue
                plain = Image.fromarray(source if source.shape[-1] in (3, 4) else source.reshape(6, 5))
                got = np.asarray(DatasetSource("x", "train", Given(kind), channels).image(0))
                assert np.array_equal(got, np.asarray(to_channels(plain, channels)))
    with pytest.raises(ConfigError, match=re.escape("(6, 5, 2); expected one or three channels, or four (RGBA)")):
        DatasetSource("x", "train", Given(rgba[..., :2]), 4).image(0)


def test_shipped_networks_and_timms_take_any_channels() -> None:
    made = {name: build(composed(f"model={name}")["model"]) for name in list_options("model")}
    made |= {name: Timm(name=name) for name in ("convnext_atto", "regnetx_002")}
    made |= {"vit": Timm(name="vit_tiny_patch16_224", args={"img_size": 64})}
    made |= {"small": Timm(name="resnet18", small_images=True)}
    for name, factory in made.items():
        for channels in (1, 4):
            spec = Spec(classes=5, channels=channels, height=64, width=64)
            with torch.device("meta"):
                network = factory(spec).eval()
                generates = isinstance(network, Generates)
                out = network(torch.empty(2, network.latent) if generates else torch.empty(2, channels, 64, 64))
            if generates or name in ("stargan", "pairwise_generators"):  # images, of each network for two domains
                images = out.images if generates else out.view(2, -1, channels, 64, 64)[:, 0]
                assert images.shape == (2, channels, 64, 64), (name, channels)
                continue
            width = 32 if name == "two_encoders" else 5  # points in a space, not scores
            assert out.shape == (2, width), (name, channels)
    assert len(made) > 15


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("technique", ["cutmix", "mixup", "cutout", "erasing"])
def test_techniques_take_any_channels(technique: str, channels: int) -> None:
    (transform,) = recipe_of("experiment=smoke", techniques=(technique,)).transforms.values()
    assert transform is not None
    if hasattr(transform, "prob"):
        transform = replace(transform, prob=1.0)  # type: ignore[type-var]
    inputs = torch.rand(4, 4, 12, 12, generator=stream(0, "x"))
    places = torch.arange(4)

    def changed(inputs: Tensor) -> Batch:
        return transform(Batch(inputs, places, places, places, 4, 5), Progress(2, 10, 0, 5))

    got, alone = changed(inputs[:, :channels]), changed(inputs[:, :1])
    assert got.inputs.shape == (4, channels, 12, 12)
    assert torch.equal(got.inputs[:, :1], alone.inputs)  # boxes and partners do not depend on the channels
    assert torch.equal(got.targets, alone.targets)
