"""Boxes of a tree in evaluation batches: of both forms, at any batch size, in any number of processes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.image_trees import images, tree
from helpers.packs import QUIET, content
from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.data.trees.boxes import BOXES_FILE

HERE = DeviceContext(torch.device("cpu"))
SPLITS = ("val", "minival", "train_sample")


def with_boxes(root: Path, shift: int = 0, sizes: tuple[tuple[int, int], ...] = ((40, 40),)) -> Path:
    """A tree of 24 + 15 images, of which every image but the first of each class has a box of its own."""
    tree(root, sizes=sizes)
    write_boxes(root, shift)
    return root


def write_boxes(root: Path, shift: int = 0) -> None:
    paths = sorted(p.relative_to(root).as_posix() for p in root.glob("*/*/*.png") if p.stem != "000")
    lines = [f"{path},{i % 20},{shift},{i % 20 + 9},{19 + shift}" for i, path in enumerate(paths)]
    (root / BOXES_FILE).write_text("path,x0,y0,x1,y1\n" + "\n".join(lines) + "\n")


def seen(data: DataSets, split: str = "val", size: int = 4) -> tuple[Tensor, Tensor]:
    batches = list(data.splits[split](size))
    return torch.cat([b.ids for b in batches]), torch.cat([b.also["box"] for b in batches])


def same(left: Tensor, right: Tensor) -> bool:
    return torch.equal(left.nan_to_num(-1), right.nan_to_num(-1))


def test_both_forms_have_the_same_boxes_at_any_batch_size(tmp_path: Path) -> None:
    root = with_boxes(tmp_path)
    prepare(PrepareRequest("folder", root, 40), QUIET)
    decoded = images(root, minival=6, size=20, eval_ratio=1.0)(HERE)
    packed = images(root, minival=6, size=20, eval_ratio=1.0, form="packed", pack_size=40)(HERE)
    assert decoded.facts == packed.facts == dict.fromkeys(SPLITS, ("box",))
    for split in SPLITS:
        ids, boxes = seen(decoded, split)
        assert boxes.dtype == torch.float32
        assert boxes.shape == (len(ids), 4)
        for data, size in ((packed, 4), (decoded, 1), (decoded, 50), (packed, 50)):
            assert torch.equal(seen(data, split, size)[0], ids)
            assert same(seen(data, split, size)[1], boxes)
    ids, boxes = seen(decoded)
    assert boxes[:, 0].isnan().tolist() == [i % 5 == 0 for i in ids.tolist()]
    # the second image of the second class is the 26th of those with a box: 21 training images come first
    assert boxes[6].tolist() == [(25 % 20) / 2, 0, (25 % 20 + 10) / 2, 10]


def test_boxes_are_those_of_the_samples_that_were_chosen(tmp_path: Path) -> None:
    root = with_boxes(tmp_path)
    ids, boxes = seen(images(root, minival=6, size=40, eval_ratio=1.0)(HERE), "minival")
    listed = [(k, i) for k in range(3) for i in range(8)]
    for index, box in zip(ids.tolist(), boxes, strict=True):
        k, i = listed[index]
        if i == 0:
            assert box.isnan().all()
        else:
            start = (7 * k + i - 1) % 20
            assert box.tolist() == [start, 0, start + 10, 20]


def test_processes_share_the_boxes_and_workers_make_the_same(tmp_path: Path) -> None:
    root = with_boxes(tmp_path, sizes=((40, 52), (61, 40)))
    whole = seen(images(root)(HERE))
    shares = [seen(images(root)(replace(HERE, rank=rank, world=4))) for rank in range(4)]
    assert torch.equal(torch.cat([ids for ids, _ in shares]), whole[0])
    assert same(torch.cat([boxes for _, boxes in shares]), whole[1])
    assert same(seen(images(root, workers=2)(HERE))[1], whole[1])
    left_out = root / "val" / "class_1" / "002.png"
    left_out.write_bytes(b"nothing")
    kept = torch.arange(15) != 7
    assert same(seen(images(root, on_error="skip")(HERE))[1], whole[1][kept])


def test_training_sees_no_boxes_and_its_checksum_does_not_either(tmp_path: Path) -> None:
    root = with_boxes(tmp_path)
    prepare(PrepareRequest("folder", root, 40), QUIET)
    kinds = ({}, {"form": "packed", "pack_size": 40})
    before = [images(root, **kind)(HERE) for kind in kinds]
    assert [dict(data.loader(8, 0).batch(0).also) for data in before] == [{}, {}]
    (root / BOXES_FILE).unlink()
    prepare(PrepareRequest("folder", root, 40), QUIET)
    after = [images(root, **kind)(HERE) for kind in kinds]
    assert [data.checksum for data in after] == [data.checksum for data in before]
    assert all(not any(data.facts.values()) for data in after)
    assert dict(next(iter(after[1].splits["val"](4))).also) == {}


def test_a_pack_gets_boxes_without_being_made_again(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    pack = root / "packed" / "folder-40"
    prepare(PrepareRequest("folder", root, 40), QUIET)
    plain = content(pack)
    write_boxes(root)
    open_it = images(root, form="packed", pack_size=40, size=40, eval_ratio=1.0)
    assert not open_it(HERE).facts["val"], "a pack from before there were boxes stays usable"
    prepare(PrepareRequest("folder", root, 40), QUIET)
    more = content(pack)
    assert {name: more[name] for name in plain} == plain
    assert more.keys() - plain.keys() == {"boxes.npz"}
    first = seen(open_it(HERE))[1]
    write_boxes(root, shift=3)
    with pytest.raises(ConfigError, match=r"boxes\.npz was made from another .*boxes\.csv; make it again with"):
        open_it(HERE)
    prepare(PrepareRequest("folder", root, 40), QUIET)
    moved = seen(open_it(HERE))[1] - first
    assert moved[1].tolist() == [0, 3, 0, 3]
    (pack / "boxes.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"boxes\.npz is damaged"):
        open_it(HERE)


def test_boxes_of_another_pack_are_refused(tmp_path: Path) -> None:
    root = with_boxes(tmp_path)
    prepare(PrepareRequest("folder", root, 40), QUIET)
    path = root / "packed" / "folder-40" / "boxes.npz"
    with np.load(path) as there:
        parts = dict(there)
    np.savez(path, **{**parts, "pack": np.array("other")})
    with pytest.raises(ConfigError, match=r"boxes\.npz is of another pack"):
        images(root, form="packed", pack_size=40)(HERE)
    without = {name: value for name, value in parts.items() if name != "train"}
    for damaged in ({**parts, "val": parts["val"][:-1]}, {**parts, "val": parts["val"][:, :3]}, without):
        np.savez(path, **damaged)
        with pytest.raises(ConfigError, match=r"is damaged"):
            images(root, form="packed", pack_size=40)(HERE)


def test_boxes_of_no_image_of_the_tree_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / BOXES_FILE).write_text("path,x0,y0,x1,y1\nval/class_0/900.png,1,1,5,5\n")
    told = r"boxes\.csv: none of its 1 lines is of an image of the tree"
    with pytest.raises(ConfigError, match=told):
        images(root)(HERE)
    with pytest.raises(ConfigError, match=told):
        prepare(PrepareRequest("folder", root, 40), QUIET)
