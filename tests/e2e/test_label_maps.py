"""From a teacher's run to its label map and two training steps with it, on image files and on their pack."""

import json
from pathlib import Path

import pytest

from helpers.image_trees import tree
from paribus.cli.main import dispatch
from paribus.core.label_maps import read_maps

QUIET = ("tracker=events", "runtime.threads=1", "runtime.device=cpu")
NET = ("model=convnet", "model.widths=[4,8]", "model.depth=1")
FORMS = {"folder": ("data.form=folder", "data.workers=1"), "packed": ("data.form=packed",)}


def teach_and_train(form: str, here: Path, *data: str, size: int, steps: int = 2) -> Path:
    """The label map, once a run has trained with it. here/t: the teacher's run; here/s: the student's."""
    words = ("train", *data, *FORMS[form], f"data.size={size}", *NET, *QUIET, "batch_size=8")
    assert dispatch([*words, "name=teacher", f"steps={steps}ba", f"paths.runs={here / 't'}", "-q"]) == 0
    (teacher,) = (here / "t").iterdir()
    file = here / "maps.safetensors"
    assert dispatch(["data", "label-map", str(teacher), "--out", str(file), "--size", str(2 * size), "--top", "2"]) == 0
    both = ("technique=[cutmix,relabel]", f"transforms.relabel.maps={file}")
    assert dispatch([*words, "name=student", *both, "steps=2ba", f"paths.runs={here / 's'}", "-q"]) == 0
    (student,) = (here / "s").iterdir()
    summary = json.loads((student / "summary.json").read_text())
    assert summary["data_checksum"] == read_maps(file).about.data
    assert summary["step"] == 2
    return file


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tree(tmp_path_factory.mktemp("tree"), train=8, sizes=((40, 52), (24, 33)))
    assert dispatch(["data", "prepare", "folder", "--root", str(root), "--size", "32", "--workers", "1"]) == 0
    return root


@pytest.mark.parametrize("form", FORMS)
def test_a_small_tree(form: str, small: Path, tmp_path: Path) -> None:
    file = teach_and_train(form, tmp_path, "data=folder", f"data.root={small}", "data.pack_size=32", size=16)
    maps = read_maps(file)
    assert (len(maps.ids), maps.grid, maps.top, maps.about.classes) == (24, (16, 16), 2, 3)


def test_the_map_of_the_files_is_none_of_their_pack(
    small: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = ("data=folder", f"data.root={small}", "data.pack_size=32")
    file = teach_and_train("folder", tmp_path, *data, size=16)
    words = ("train", *data, *FORMS["packed"], "data.size=16", *NET, *QUIET, "batch_size=8", "steps=2ba")
    code = dispatch([*words, "technique=relabel", f"transforms.relabel.maps={file}", f"paths.runs={tmp_path}", "-q"])
    assert code == 2
    assert "transforms.relabel.maps: " in (err := capfd.readouterr().err)
    assert "is of other training samples" in err


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_imagenette(form: str, image_sets: Path, tmp_path: Path) -> None:
    """Real photographs of many sizes, an epoch of a small teacher."""
    packed = tmp_path / "pack"
    if form == "packed":
        root = str(image_sets / "imagenette160-sub")
        words = [
            "data",
            "prepare",
            "imagenette",
            "--root",
            root,
            "--size",
            "80",
            "--out",
            str(packed),
            "--allow-missing",
        ]
        assert dispatch(words) == 0
    more = (f"data.pack={packed}",) if form == "packed" else ()
    data = ("data=imagenette", f"data.root={image_sets / 'imagenette160-sub'}", "data.pack_size=80", *more)
    file = teach_and_train(form, tmp_path, *data, size=32, steps=16)
    maps = read_maps(file)
    assert maps.about.classes == 10
    assert maps.grid == (32, 32)
