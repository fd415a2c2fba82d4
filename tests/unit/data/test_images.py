"""Sets of images by config: what is refused before any work, what is told, what evaluation sees."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.image_trees import images, picture, tree
from helpers.packs import QUIET
from helpers.trainings import recipe_of
from paribus.core.build import build, to_config
from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.loaders import decode_batch
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.data.wrapped import FromDataset

HERE = DeviceContext(torch.device("cpu"))


def seen(data: DataSets, split: str = "val") -> torch.Tensor:
    return torch.cat([batch.inputs for batch in data.splits[split](4)])


def test_what_is_wrong_is_one_line_with_what_to_do(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    for settings, told in (
        (
            {"form": "packed"},
            f"no pack of folder at 160 pixels in {root}/packed/folder-160; data.form=folder needs none and "
            "decodes in every step, or make it with: paribus data ",
        ),
        ({"form": "packed", "size": 176}, "data.size: found 176; a pack of data.pack_size=160 has fewer pixels a side"),
        ({"keep": "device"}, "data.keep: found device; data.form=folder reads no pack"),
        ({"pack": "there"}, "data.pack: found there; data.form=folder reads no pack"),
        ({"name": "imagenete"}, "data.name: imagenete: no such set of images (did you mean imagenette or"),
        ({"root": str(tmp_path)}, f"data.root: {tmp_path}: no tree of images there (no train/ in it)"),
        ({"minival": 24}, "data.minival: found 24; there are 24 training images to share"),
        ({"train_size": 25}, "data.train_size: found 25; folder has 24 samples to choose from"),
    ):
        with pytest.raises(ConfigError) as refused:
            images(root, **settings)(HERE)
        assert told in str(refused.value)
    with pytest.raises(ConfigError, match=r"data\.download: only one process may download"):
        images(root, download=True)(replace(HERE, world=2))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.scale=[1.0,0.5]", r"data: scale: found \[1\.0, 0\.5\]; the least comes first"),
        ("data.form=jpeg", r"data\.form: found 'jpeg'"),
        ("data.eval_ratio=1.5", r"data\.eval_ratio: found 1\.5"),
    ],
)
def test_a_setting_out_of_range_names_its_key(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        recipe_of("data=folder", override)


def test_where_data_lie_and_who_reads_them_is_not_the_recipe() -> None:
    plain = recipe_of("data=imagenette")
    same = ("data.root=x", "data.pack=y", "data.keep=mapped", "data.workers=7", "data.download=true")
    assert recipe_of("data=imagenette", *same).id == plain.id
    assert recipe_of("data=imagenette", "data.form=folder").id != plain.id


def test_both_forms_evaluate_alike_and_name_their_classes(tmp_path: Path) -> None:
    root = tree(tmp_path)
    prepare(PrepareRequest("folder", root, 40), QUIET)
    decoding = images(root, minival=6)(HERE)
    packed = images(root, minival=6, form="packed", pack_size=40)(HERE)
    for split in ("val", "minival"):
        assert torch.equal(seen(decoding, split), seen(packed, split))
    assert decoding.sizes == packed.sizes == {"train": 18, "val": 15, "minival": 6}
    assert decoding.names == packed.names == ("class_0", "class_1", "class_2")
    assert decoding.spec == packed.spec
    assert decoding.checksum != packed.checksum
    bicubic = images(root, interpolation="bicubic")(HERE)
    assert not torch.equal(seen(decoding), seen(bicubic))


def test_a_pack_without_bad_images_is_used_only_when_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path)
    (root / "train" / "class_1" / "003.png").write_bytes(b"nothing")
    prepare(PrepareRequest("folder", root, 40, skip=True), QUIET)
    with pytest.raises(ConfigError, match=r"without 1 images that do not decode \(.*003\.png.*data\.on_error=skip"):
        images(root, form="packed", pack_size=40)(HERE)
    data = images(root, form="packed", pack_size=40, on_error="skip")(HERE)
    assert data.sizes["train"] == 23
    assert list(data.undecodable()) == ["train/class_1/003.png"]
    assert "is without 1 images that do not decode" in capfd.readouterr().err
    ids = data.loader(23, 0).batch(0).ids.tolist()
    assert sorted(ids) == [i for i in range(24) if i != 11], "draws keep belonging to the places in the listing"


def test_without_a_compiler_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = images(tree(tmp_path, sizes=((40, 52), (61, 37), (24, 90))), interpolation="bicubic")
    native = made(HERE).loader(24, 0).batch(2).inputs
    monkeypatch.setattr(decode_batch, "kernels", SimpleNamespace(load_kernels=lambda: None))
    assert torch.equal(made(HERE).loader(24, 0).batch(2).inputs, native)


class Shapes:
    """A dataset as people write them."""

    classes = ("dark", "light")

    def __init__(self, n: int, kind: str = "pillow", labelled: bool = True) -> None:
        self.n, self.kind = n, kind
        if labelled:
            self.targets = [i % 2 for i in range(n)]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[Any, int]:
        image = picture(str(i), 24, 30)
        pixels = torch.tensor(list(image.tobytes()), dtype=torch.uint8).view(24, 30, 3)
        kinds = {"pillow": image, "tensor": pixels.permute(2, 0, 1), "array": pixels.numpy(), "float": pixels.float()}
        if self.kind == "broken" and i == 5:
            raise KeyError("no number 5")
        return kinds.get(self.kind, image), i % 2


def wrapped(train: dict[str, Any], **settings: Any) -> FromDataset:
    return FromDataset(dataset=Shapes, train=train, val={"n": 6}, size=16, **{"workers": 0, **settings})


def test_a_dataset_class_gives_the_same_batches_in_every_shape() -> None:
    first = wrapped({"n": 12})(HERE)
    assert (first.names, first.spec.classes, first.sizes) == (("dark", "light"), 2, {"train": 12, "val": 6})
    batch = first.loader(6, 0).batch(1)
    assert batch.targets.tolist() == (batch.ids % 2).tolist()
    for given in ({"kind": "tensor"}, {"kind": "array"}, {"labelled": False}):
        again = wrapped({"n": 12, **given}, workers=2)(HERE).loader(6, 0)
        assert torch.equal(again.batch(1).inputs, batch.inputs), given
    assert seen(first).shape == (6, 3, 16, 16)


def test_what_a_dataset_class_does_wrong_is_told_by_name() -> None:
    for given, told in (
        (
            {"n": 12, "kind": "float"},
            r"Shapes train\[0\]: found .*float32; expected a Pillow image or",
        ),
        ({"n": 0}, r"data\.train: Shapes is empty"),
        ({"size": 3}, r"data\.train: Shapes cannot be made from .*TypeError"),
    ):
        with pytest.raises(ConfigError, match=told):
            wrapped(given)(HERE)
    told = r"Shapes train\[5\]: KeyError: 'no number 5' \(.*, line \d+\); data\.on_error=skip"
    with pytest.raises(Exception, match=told):
        wrapped({"n": 12, "kind": "broken"})(HERE).loader(12, 0).batch(0)


def test_a_class_in_a_config_comes_from_the_users_own_packages() -> None:
    node = {"_class_": "paribus.data.images.ImageSet"}
    with pytest.raises(ConfigError, match=r"dataset\._class_: found paribus.*; only classes of your own packages"):
        build({"dataset": node})
    with pytest.raises(ConfigError, match=r"dataset\._class_: helpers\.image_trees\.Path is not a class defined in"):
        build({"dataset": {"_class_": "helpers.image_trees.Path"}}, packages=("helpers",))  # only imported there
    found = build({"dataset": {"_class_": "concurrent.futures.Future"}}, packages=("concurrent",))
    assert to_config(found)["dataset"] == {"_class_": "concurrent.futures._base.Future"}
