"""The manifests that are shipped, against what torchvision and timm know of the same sets."""

from importlib import resources
from pathlib import Path

import pytest

from paribus.core.errors import ConfigError
from paribus.data.trees.manifest import Manifest, load_manifest, read_manifest
from paribus.data.trees.names import list_manifest_names


def test_all_are_read_and_their_targets_are_those_of_an_image_folder() -> None:
    found = {name: load_manifest(name) for name in list_manifest_names()}
    counts = {name: (len(m.classes), m.train, m.val) for name, m in found.items()}
    assert counts == {
        "imagenet": (1000, 1_281_167, 50_000),
        "imagenet100": (100, None, 5_000),
        "imagenet_1pct": (1000, 12_811, 50_000),
        "imagenet_10pct": (1000, 128_116, 50_000),
        "imagenette": (10, 9_469, 3_925),
        "imagewoof": (10, 9_025, 3_929),
        "tiny_imagenet": (200, 100_000, 10_000),
    }
    everything = set(found["imagenet"].classes)
    for m in found.values():
        assert list(m.classes) == sorted(m.classes)
        assert set(m.classes) <= everything
    for share, name in ((0.01, "imagenet_1pct"), (0.1, "imagenet_10pct")):
        assert found[name].share == share
        assert found[name].train == int(share * 1_281_167)


def test_classes_and_checksums_are_those_of_torchvision_and_timm() -> None:
    from torchvision.datasets import imagenet, imagenette

    ours = load_manifest("imagenette")
    theirs = {url: md5 for url, md5 in imagenette.Imagenette._ARCHIVES.values()}
    assert {archive.url: archive.md5 for archive in ours.archives} == theirs
    words = imagenette.Imagenette._WNID_TO_CLASS
    assert {wnid: names[0] for wnid, names in words.items()} == dict(ours.classes)
    large = load_manifest("imagenet")
    assert {a.file: a.md5 for a in large.archives} == dict(imagenet.ARCHIVE_META[s] for s in ("train", "val"))
    synsets = resources.files("timm.data").joinpath("_info/imagenet_synsets.txt").read_text().split()
    assert list(large.classes) == synsets


def test_an_unknown_name_is_told_with_what_is_near() -> None:
    with pytest.raises(ConfigError, match=r"imagenete: no such set of images .did you mean imagenette"):
        load_manifest("imagenete")


GOOD = "title: t\nclasses: {a: A, b: B}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "found NoneType, expected a mapping"),
        ("[1]", "found list"),
        ("title: [", "no manifest"),
        ("title: t", "classes: missing"),
        (GOOD + "train: 0", "train: found 0"),
        (GOOD + "train: '9'", "train: found '9'"),
        (GOOD + "colour: red", "colour: no such key"),
        (GOOD + "archives: 3", "archives: found 3"),
        (GOOD + "archives: [{file: ../x.tgz}]", "archives.0.file: found '../x.tgz'"),
        (GOOD + "archives: [{file: x.tgz, md5: abc}]", "archives.0.md5: found 'abc'"),
        (GOOD + "within: nowhere", "within: found 'nowhere'"),
        ("title: t\nclasses: {a: A, ../b: B}", "classes: found '../b'"),
        ("title: t\nclasses_of: nothing", "classes_of: found 'nothing'"),
    ],
)
def test_a_wrong_manifest_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_manifest(path)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_right_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert read_manifest(path) == Manifest(name="mine", title="t", classes={"a": "A", "b": "B"})
