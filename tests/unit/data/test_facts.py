"""Groups and other facts of a user's own images: a tree's facts.csv in both forms, a dataset class's `also`."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.image_trees import images, picture, tree
from helpers.packs import QUIET, content
from paribus.cli.data.check import run
from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.data.trees.facts import FACTS_FILE, match_facts, read_facts
from paribus.data.wrapped import FromDataset

HERE = DeviceContext(torch.device("cpu"))
PACKED = {"form": "packed", "pack_size": 40}
TRAIN = 24


def write_facts(root: Path, shift: int = 0) -> None:
    """Of the image k in the listing of its split, group (k + shift) % 3 and light k / 7, but nothing of each fifth."""
    lines = list[str]()
    for split in ("train", "val"):
        for k, path in enumerate(sorted(root.glob(f"{split}/*/*.png"))):
            if k % 5:
                lines.append(f"{path.relative_to(root).as_posix()},{(k + shift) % 3},{k / 7}")
    lines.append("val/class_0/000.png,,0.25")  # of the group of the first validation image nothing is known
    (root / FACTS_FILE).write_text("\n".join(["path,group,light", *lines]) + "\n")


def with_facts(root: Path) -> Path:
    write_facts(tree(root))
    return root


def is_of_its_samples(batch: Batch, shift: int = 0) -> bool:
    known = batch.ids % 5 != 0
    groups = torch.where(known, (batch.ids + shift) % 3, -1)
    light = torch.where(known, (batch.ids / 7).float(), torch.tensor(torch.nan))
    light_is_right = torch.isclose(batch.also["light"], light, equal_nan=True).all()
    return bool((batch.also["group"] == groups).all() and light_is_right)


def kinds(root: Path, **more: Any) -> list[Any]:
    return [images(root, **more), images(root, **PACKED, **more)]


@pytest.mark.parametrize("world", [1, 2])
def test_training_batches_have_the_facts_of_their_samples_in_both_forms(tmp_path: Path, world: int) -> None:
    root = with_facts(tmp_path)
    prepare(PrepareRequest("folder", root, 40), QUIET)
    for made in kinds(root):
        for rank in range(world):
            data = made(replace(HERE, rank=rank, world=world))
            assert data.facts["train"] == ("group", "light")
            loader = data.loader(8, 3)
            for step in (0, 4):
                batch = loader.batch(step)
                assert len(batch) == 8 // world
                assert is_of_its_samples(batch)
                assert not is_of_its_samples(batch, shift=1), "negative control: the groups of other samples are seen"
                peers = batch.peers(torch.tensor([7, 0, 3]))
                assert is_of_its_samples(peers)
                assert world == 1 or is_of_its_samples(peers.peers(torch.tensor([1, 6])))


def test_evaluation_batches_have_them_at_any_batch_size_and_of_any_share(tmp_path: Path) -> None:
    root = with_facts(tmp_path)
    prepare(PrepareRequest("folder", root, 40), QUIET)
    found = list[Tensor]()
    for made in (*kinds(root, minival=6), images(root, minival=6, workers=2)):
        for size in (1, 4, 50):
            assert all(is_of_its_samples(batch) for batch in made(HERE).splits["minival"](size))
            found.append(torch.cat([batch.also["group"] for batch in made(HERE).splits["val"](size)]))
    assert all(torch.equal(groups, found[0]) for groups in found)
    shares = [images(root)(replace(HERE, rank=rank, world=4)).splits["val"](2) for rank in range(4)]
    assert torch.equal(torch.cat([batch.also["group"] for share in shares for batch in share]), found[0])
    first = next(iter(images(root)(HERE).splits["val"](1)))
    assert (first.also["group"].item(), first.also["light"].item()) == (-1, 0.25)


def test_where_another_image_stands_in_for_one_the_facts_are_of_what_is_shown(tmp_path: Path) -> None:
    """Its label is that of its class, its group is not that of its class."""
    root = with_facts(tmp_path)
    (root / "train" / "class_0" / "001.png").write_bytes(b"nothing")
    loader = images(root, on_error="skip", flip=False, scale=(1.0, 1.0), ratio=(1.0, 1.0))(HERE).loader(TRAIN, 0)
    batch = loader.batch(0)
    there = {int(i): k for k, i in enumerate(batch.ids)}
    assert torch.equal(batch.inputs[there[1]], batch.inputs[there[2]])
    assert batch.also["group"][there[1]] == batch.also["group"][there[2]] == 2


def test_minival_has_the_groups_of_each_class_in_proportion(tmp_path: Path) -> None:
    root = tree(tmp_path, classes=2, train=20, val=2)
    lines = [f"train/class_{c}/{i:03}.png,{int(i < 5)}" for c in range(2) for i in range(20)]
    (root / FACTS_FILE).write_text("\n".join(["path,group", *lines]))
    prepare(PrepareRequest("folder", root, 40), QUIET)
    for made in kinds(root, minival=8):
        (batch,) = made(HERE).splits["minival"](50)
        assert (2 * batch.targets + batch.also["group"]).bincount(minlength=4).tolist() == [3, 1, 3, 1]


def test_facts_are_in_the_checksum_and_no_other_file_of_a_pack_changes(tmp_path: Path) -> None:
    root = tree(tmp_path)
    request = PrepareRequest("folder", root, 40)
    prepare(request, QUIET)
    plain, pack = [made(HERE).checksum for made in kinds(root)], content(request.folder)
    (root / FACTS_FILE).write_text("path,group\n")
    with pytest.raises(ConfigError, match=r"has nothing of .*facts\.csv, which is newer; add it with: paribus data"):
        images(root, **PACKED)(HERE)
    prepare(request, QUIET)
    assert [made(HERE).checksum for made in kinds(root)] == plain, "a file without lines says nothing"
    write_facts(root)
    with pytest.raises(ConfigError, match=r"facts\.npz was made from another .*facts\.csv"):
        images(root, **PACKED)(HERE)
    prepare(request, QUIET)
    first = [made(HERE).checksum for made in kinds(root)]
    write_facts(root, shift=1)
    prepare(request, QUIET)
    second = [made(HERE).checksum for made in kinds(root)]
    assert len({*plain, *first, *second}) == 6
    after = content(request.folder)
    assert {name: after[name] for name in pack} == pack
    assert after.keys() - pack.keys() == {"facts.npz"}
    (root / FACTS_FILE).unlink()
    prepare(request, QUIET)
    assert [made(HERE).checksum for made in kinds(root)] == plain


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,group\n", r"found the first line 'image,group'; it should be path,NAME"),
        ("path\n", r"it should be path,NAME"),
        ("", r"found the first line ''"),
        ("path,Group\n", r"the column 'Group'; a name is of small letters"),
        ("path,box\n", r"the column 'box'"),
        ("path,a,a\n", r"the column 'a'; .* there once"),
        ("path,group\nx.png,1,2\n", r"line 2: found 3 cells; the first line has 2"),
        ("path,group\nx.png,1\nx.png,1\n", r"line 3: a second line of x\.png"),
        ("path,group\nx.png,female\n", r"line 2: group: found 'female'; give a number"),
        ("path,group\nx.png,1\ny.png,-1\n", r"y\.png: group: found -1; whole numbers count from 0, and an empty cell"),
        ("path,light\nx.png,inf\n", r"light: found 'inf'"),
        ("path,group\nx.png,1\ny.png,0.5\n", r"y\.png: group: found 0\.5; groups are whole numbers from 0"),
        ("path,group\nx.png,1\n", r"none of its 1 lines, of which 'x\.png' is the first, is of an image of the tree"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    root = tree(tmp_path, classes=2, train=2, val=1)
    (root / FACTS_FILE).write_text(text)
    with pytest.raises(ConfigError, match=told):
        images(root)(HERE)
    with pytest.raises(ConfigError, match=told):
        prepare(PrepareRequest("folder", root, 40), QUIET)
    with pytest.raises(ConfigError, match=told):
        dispatch_check(root)


def dispatch_check(root: Path) -> None:
    run(argparse.Namespace(name="folder", root=root, out=None, deep=False, allow_missing=False, list=None))


def test_a_line_of_no_image_is_warned_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path, classes=2, train=2, val=1)
    (root / FACTS_FILE).write_text("path,group\ntrain/class_0/000.png,1\ntrain/class_0/0000.png,1\n")
    told = "facts.csv: 1 of its 2 lines, of which 'train/class_0/0000.png' is the first, is of no image"
    images(root)(HERE)
    assert told in capfd.readouterr().err
    images(root)(replace(HERE, rank=1, world=2))
    assert told not in capfd.readouterr().err, "one process says it"
    dispatch_check(root)
    out = capfd.readouterr().out
    assert "facts.csv: group, 2 lines" in out
    assert told in out


def test_whole_numbers_are_indices_and_others_are_measures(tmp_path: Path) -> None:
    text = "\ufeffpath,group,light,nobody\na,2,-1.5,\nb,,-1,\n\n"  # with the mark that spreadsheets put first
    (tmp_path / FACTS_FILE).write_text(text, encoding="utf-8")
    table = read_facts(tmp_path)
    assert table is not None
    found = match_facts(table, ["b", "a", "c"])
    assert found.keys() == {"group", "light"}
    assert (found["group"].dtype, found["group"].tolist()) == (np.dtype("int64"), [-1, 2, -1])
    assert found["light"].dtype == np.dtype("float32")
    assert found["light"][:2].tolist() == [-1.0, -1.5]


class Given:
    def __init__(self, n: int, also: Any) -> None:
        self.targets = [i % 2 for i in range(n)]
        if also is not None:
            self.also = also

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return picture(i, 16, 16), self.targets[i]


def wrapped(train: Any, val: Any = None) -> DataSets:
    return FromDataset(dataset=Given, train={"n": 8, "also": train}, val={"n": 4, "also": val}, size=16, workers=0)(
        HERE
    )


def test_a_dataset_class_has_facts_as_an_attribute() -> None:
    data = wrapped({"group": [0, 1, 2, 3, -1, 5, 6, 7], "pose": np.eye(8)}, {"group": range(4)})
    assert data.facts["train"] == ("group", "pose")
    assert data.facts["val"] == ("group",)
    batch = data.loader(4, 0).batch(1)
    assert (batch.also["group"] == torch.where(batch.ids == 4, -1, batch.ids)).all()
    assert torch.equal(batch.also["pose"], torch.eye(8)[batch.ids])
    (whole,) = data.splits["val"](4)
    assert whole.also["group"].tolist() == [0, 1, 2, 3]
    assert wrapped(None).checksum != wrapped({"group": range(8)}).checksum
    assert wrapped(None).facts.get("train", ()) == ()


@pytest.mark.parametrize(
    ("also", "told"),
    [
        ([1, 2], r"data\.train: found also, a list; expected a dict"),
        ({"group": [1, 2]}, r"found also\['group'\], torch\.int64 of shape \(2,\); expected .* each of the 8 items"),
        ({"group": ["a"] * 8}, r"also\['group'\] cannot be read"),
        ({"group": 1}, r"found also\['group'\]"),
        ({"box": np.zeros((8, 4))}, r"boxes only of a tree"),
    ],
)
def test_what_a_class_says_wrongly_is_told(also: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        wrapped(also)
