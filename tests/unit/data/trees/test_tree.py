"""Trees of images: what is found, in which order, and what is wrong with them."""

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.image_trees import images, pets, picture
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.data.packs.prepare import PrepareRequest, inspect_source
from paribus.data.packs.write import ProgressSink
from paribus.data.trees.decoding import BadImage
from paribus.data.trees.manifest import Manifest, load_manifest
from paribus.data.trees.select import check_selection, compute_fingerprint, find_shortfalls, select_images
from paribus.data.trees.source import open_folder_source
from paribus.data.trees.tree import explain_unread, find_tree, list_images

PETS = Manifest(name="pets", title="Pets", classes={"cat": "cat", "dog": "dog"}, train=6, val=4)


def test_images_are_listed_by_class_and_path(tmp_path: Path) -> None:
    top = pets(tmp_path)
    picture(90).save(top / "train" / "cat" / "Z.JPEG")
    picture(91).save(top / "train" / "cat" / "b.webp")
    (top / "train" / "cat" / "deeper").mkdir()
    picture(92).save(top / "train" / "cat" / "deeper" / "a.bmp")
    (top / "train" / "cat" / "notes.txt").touch()
    (top / "train" / "cat" / ".hidden.png").touch()
    (top / "train" / ".cache").mkdir()
    found = list_images(top, "train", None)
    cats = ["Z.JPEG", "b.webp", "cat_0.png", "cat_1.png", "cat_2.png", "deeper/a.bmp"]
    assert found.paths == (*(f"train/cat/{n}" for n in cats), *(f"train/dog/dog_{i}.png" for i in range(3)))
    assert found.targets == (0,) * 6 + (1,) * 3
    assert found.ignored == {".txt": 1}
    source = open_folder_source(top, "train", None)
    assert [source.image_name(i) for i in range(len(source))] == list(found.paths)
    assert torch.equal(source.targets, torch.tensor(found.targets))
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(np.asarray(again.image(5)), np.asarray(picture(92)))
    with pytest.raises(IndexError):
        source.image_name(9)
    (top / "train" / "cat" / "Z.JPEG").write_bytes(b"")
    with pytest.raises(BadImage, match=r"train/cat/Z.JPEG: no JPEG"):
        source.image(0)


def test_names_that_are_no_utf8_are_found_again(tmp_path: Path) -> None:
    top = pets(tmp_path)
    try:
        (top / "train/cat/cat_0.png").rename(os.fsdecode(os.fsencode(top / "train/cat") + b"/\xff.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    source = open_folder_source(top, "train", None)
    assert source.image(2).size == picture(0).size
    compute_fingerprint([list_images(top, "train", None)])


def without_class(top: Path) -> None:
    shutil.rmtree(top / "val" / "dog")


def with_empty_class(top: Path) -> None:
    for path in (top / "train" / "dog").iterdir():
        path.unlink()


def with_strange_class(top: Path) -> None:
    (top / "val" / "horse").mkdir()


def with_file_for_class(top: Path) -> None:
    without_class(top)
    (top / "val" / "dog").touch()


def with_circle(top: Path) -> None:
    (top / "val" / "dog" / "again").symlink_to(top / "val" / "dog")


def without_split(top: Path) -> None:
    shutil.rmtree(top / "val")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without_class, "val: 1 class folder missing: dog"),
        (with_empty_class, r"train: 1 class folder empty \(no image in it\): dog"),
        (with_strange_class, "val: 1 folder of no class .*: horse; move"),
        (with_file_for_class, "val/dog cannot be read: Not a directory"),
        (with_circle, "nested too deep, or a link is circular"),
        (without_split, "val is not there; a tree of images has train/ and val/"),
    ],
)
@pytest.mark.parametrize("known", [None, PETS])
def test_what_is_wrong_with_a_tree_is_one_line(
    tmp_path: Path, spoil: Callable[[Path], None], told: str, known: Manifest | None
) -> None:
    top = pets(tmp_path)
    spoil(top)
    with pytest.raises(ConfigError, match=told):
        _ = [open_folder_source(top, split, known) for split in ("train", "val")]


def test_what_is_not_read_is_said_by_extension(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Wherever a tree is read: training from the folder, prepare, check."""
    top = pets(tmp_path)
    for i in range(3):
        (top / "train" / "cat" / f"{i}.avif").touch()
    (top / "train" / "dog" / "noext").touch()
    (top / "train" / "dog" / "deeper").mkdir()
    (top / "train" / "dog" / "deeper" / "A.AVIF").touch()
    picture(0).save(top / "train" / "lost.png")
    (top / "train" / "notes.txt").touch()
    part = list_images(top, "train", None)
    assert part.ignored == {".avif": 4, "": 1}
    told = (
        f"{top}/train: not read: 5 files without an image's extension (4 .avif, 1 without any), and 1 image outside of "
        "class folders"
    )
    assert explain_unread(part) == told
    assert explain_unread(list_images(top, "val", None)) == ""
    images(top)(DeviceContext(torch.device("cpu")))
    assert capfd.readouterr().err == f"warning: {told}\n"
    images(top)(DeviceContext(torch.device("cpu"), rank=1, world=2))
    assert capfd.readouterr().err == ""
    lines: list[str] = []
    inspect_source(PrepareRequest("folder", top), ProgressSink(lines.append, lambda total, done: lambda n: None))
    assert told in lines


@pytest.mark.parametrize("known", [None, PETS])
def test_a_class_of_files_that_are_not_read_is_said(tmp_path: Path, known: Manifest | None) -> None:
    top = pets(tmp_path)
    for path in (top / "train" / "dog").iterdir():
        path.rename(path.with_suffix(".avif"))
    (top / "train" / "dog" / "notes.txt").touch()
    with pytest.raises(ConfigError) as refused:
        list_images(top, "train", known)
    told = f"{top}/train: class folder dog has 4 files, none of a kind that is read (.jpeg, .jpg, "
    assert str(refused.value).startswith(told)
    assert str(refused.value).endswith("): 3 .avif, 1 .txt")


def test_images_that_lie_loose_are_recognised_with_the_way_to_sort_them(tmp_path: Path) -> None:
    """ImageNet's archive of validation images has no folders."""
    top = pets(tmp_path)
    shutil.rmtree(top / "val")
    (top / "val").mkdir()
    for i in range(1, 5):
        (top / "val" / f"mine_{i}.JPEG").touch()
    with pytest.raises(ConfigError, match=r"val: 4 images lie loose in val/; move each into the folder of its class"):
        list_images(top, "val", None)
    for path in (top / "val").iterdir():
        path.rename(path.with_name(path.name.replace("mine", "ILSVRC2012_val")))
    for known, allow_missing in ((None, False), (load_manifest("imagenet"), False), (load_manifest("imagenet"), True)):
        with pytest.raises(ConfigError, match=r"4 images lie loose in val/, as ImageNet's archive .* run valprep\.sh"):
            list_images(top, "val", known, allow_missing)


def test_counts_are_compared_and_a_partial_tree_must_be_allowed(tmp_path: Path) -> None:
    top = pets(tmp_path)
    parts = {s: list_images(top, s, PETS) for s in ("train", "val")}
    assert find_shortfalls(parts, PETS, None) == []
    shutil.rmtree(top / "train" / "dog")
    parts["train"] = list_images(top, "train", PETS, allow_missing=True)
    assert parts["train"].absent == ("dog",)
    assert find_shortfalls(parts, PETS, None) == ["train: 1 of 2 classes", "train: 3 of 6 images"]
    picture(7).save(top / "val" / "cat" / "one_more.png")
    parts["val"] = list_images(top, "val", PETS)
    with pytest.raises(ConfigError, match="5 images, where Pets has 4"):
        find_shortfalls(parts, PETS, None)


def test_tiny_imagenets_official_val_folder_gives_the_order_of_class_folders(tmp_path: Path) -> None:
    classes = list(load_manifest("tiny_imagenet").classes)[:3]
    sets = {}
    for form in ("official", "sorted"):
        top = tmp_path / form
        for name in classes:
            (top / "train" / name / "images").mkdir(parents=True)
            picture(1).save(top / "train" / name / "images" / f"{name}_0.JPEG")
        lines = []
        for i in range(12):
            name = classes[i * 7 % 3]
            at = top / "val" / ("images" if form == "official" else name)
            at.mkdir(parents=True, exist_ok=True)
            picture(i).save(at / f"val_{i}.JPEG")
            lines.append(f"val_{i}.JPEG\t{name}\t0\t0\t62\t62")
        if form == "official":
            (top / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
        sets[form] = list_images(top, "val", load_manifest("tiny_imagenet"), allow_missing=True)
    official, by_class = sets["official"], sets["sorted"]
    assert [p.rpartition("/")[2] for p in official.paths] == [p.rpartition("/")[2] for p in by_class.paths]
    assert official.targets == by_class.targets
    notes = tmp_path / "official" / "val" / "val_annotations.txt"
    notes.write_text("\n".join(notes.read_text().splitlines()[1:]))
    with pytest.raises(ConfigError, match=r"does not list 1 images: val_0.JPEG"):
        list_images(tmp_path / "official", "val", load_manifest("tiny_imagenet"), allow_missing=True)
    notes.write_text("val_0.JPEG\tn000\n")
    with pytest.raises(ConfigError, match="line 1: found 'n000', which is no class"):
        list_images(tmp_path / "official", "val", load_manifest("tiny_imagenet"), allow_missing=True)


def shared(name: str, share: float) -> Manifest:
    return Manifest(name=name, title=name, classes=PETS.classes, share=share, within="imagenet")


def test_a_share_is_stratified_fixed_and_nested(tmp_path: Path) -> None:
    top = tmp_path
    for split in ("train", "val"):
        for name, n in (("cat", 24), ("dog", 13)):
            (top / split / name).mkdir(parents=True)
            for i in range(n):
                (top / split / name / f"{name}_{i}.JPEG").touch()
    whole = list_images(top, "train", None)
    few, more = (select_images(whole, shared("x", share), None) for share in (0.11, 0.5))
    assert len(few.paths) == int(37 * 0.11)
    assert [more.targets.count(k) for k in (0, 1)] == [12, 6]  # 18.5 images: 12 and 6.5
    assert set(few.paths) < set(more.paths) < set(whole.paths)
    assert list(more.paths) == sorted(more.paths)
    digest = {p: hashlib.sha256(Path(p).name.encode()).hexdigest() for p in whole.paths if "/cat/" in p}
    assert {p for p in few.paths if "/cat/" in p} == set(sorted(digest, key=digest.__getitem__)[: few.targets.count(0)])
    untouched = list_images(top, "val", None)
    assert select_images(untouched, shared("x", 0.1), None) is untouched


def test_a_share_leaves_no_class_without_an_image(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name, n in (("cat", 40), ("dog", 2)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(n):
                (tmp_path / split / name / f"{name}_{i}.JPEG").touch()
    whole = list_images(tmp_path, "train", PETS)
    few = select_images(whole, shared("x", 0.1), None)
    assert [few.targets.count(k) for k in (0, 1)] == [3, 1]
    assert few.absent == ()
    check_selection(few)
    fewer = select_images(whole, shared("x", 0.03), None)  # one image for two classes
    assert fewer.absent == ("dog",)
    with pytest.raises(ConfigError, match=r"train: too few images for all 2 classes; none is chosen of dog"):
        check_selection(fewer)
    with pytest.raises(ConfigError, match="too few images"):
        open_folder_source(tmp_path, "train", shared("x", 0.03))


def test_a_list_of_names_chooses(tmp_path: Path) -> None:
    top = pets(tmp_path)
    whole = list_images(top, "train", PETS)
    chosen = select_images(whole, PETS, ["dog_1.png", "cat/cat_2.png", "dog_1.png"])
    assert chosen.paths == ("train/cat/cat_2.png", "train/dog/dog_1.png")
    with pytest.raises(ConfigError, match=r"--list: 1 of 2 images are not in .*: bird.png"):
        select_images(whole, PETS, ["bird.png", "dog_1.png"])
    allowed = select_images(whole, PETS, ["bird.png", "dog_1.png"], allow_missing=True)
    assert allowed.paths == ("train/dog/dog_1.png",)
    assert allowed.absent == ("cat",)


def test_a_tree_is_found_under_its_names_or_at_the_root(tmp_path: Path) -> None:
    known = load_manifest("imagenette")
    with pytest.raises(ConfigError, match=r"imagenette is not there .*prepare imagenette --root DIR --download"):
        find_tree(tmp_path, known)
    with pytest.raises(ConfigError, match=r"put http://cs231n.stanford.edu/tiny-imagenet-200.zip into DIR"):
        find_tree(tmp_path, load_manifest("tiny_imagenet"))
    (tmp_path / "train").mkdir()
    assert find_tree(tmp_path, known) == tmp_path == find_tree(tmp_path, None)
    (tmp_path / "imagenette2-320" / "train").mkdir(parents=True)
    assert find_tree(tmp_path, known) == tmp_path / "imagenette2-320"
    (tmp_path / "ILSVRC2012" / "train").mkdir(parents=True)
    assert find_tree(tmp_path, load_manifest("imagenet_1pct")) == tmp_path / "ILSVRC2012"


def test_other_classes_of_the_larger_set_are_no_surprise(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in load_manifest("imagenet").classes:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "x.JPEG").touch()
    assert len(list_images(tmp_path, "train", load_manifest("imagenet100")).paths) == 100
    with pytest.raises(ConfigError, match="990 folders of no class of imagenette: n01443537"):
        list_images(tmp_path, "train", load_manifest("imagenette"))


def test_a_fingerprint_knows_names_sizes_and_times(tmp_path: Path) -> None:
    top = pets(tmp_path)

    def now() -> str:
        return compute_fingerprint([list_images(top, s, None) for s in ("train", "val")])

    seen, path = [now()], top / "train" / "cat" / "cat_0.png"
    assert now() == seen[0]
    os.utime(path, ns=(1, 1))
    seen.append(now())
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(1, 1))
    seen.append(now())
    path.rename(path.with_name("cat_00.png"))
    seen.append(now())
    (top / "val" / "cat" / "cat_0.png").unlink()
    seen.append(now())
    assert len(set(seen)) == 5
