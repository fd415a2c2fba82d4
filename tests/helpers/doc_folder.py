"""The folder in which commands of the documentation run: what a reader would put for RUN, DIR, FOLDER and so on is
there under that very name.

    RUN, runs/NAME, runs/quickstart-…    a trained run on the images of TREE
    runs/NAME-HASH                       the run that the page trained last
    STUDY, FOLDER, experiments/STUDY     a study of two arms and two seeds, trained, with its rows; its runs: runs/STUDY
    TREE, DIR, photos                    a tree of images, train/CLASS and val/CLASS, with boxes.csv and facts.csv
    PHOTOS, one.jpg                      images without classes
    FILE, results.csv, right.csv         tables for paribus judge
    model.safetensors, .pt2, .onnx       what `paribus export RUN` writes, once the page has run that
    experiments/quickstart, docs         of this checkout, with the studies that the page names
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from helpers import public_tables
from helpers.doc_runner import ROOT, printed_to
from helpers.image_trees import pets, picture
from helpers.studies import written
from paribus.cli.main import dispatch
from paribus.study import plan as plans
from paribus.study.load import load_study
from paribus.study.runner.cells import build_command

_RUN = (
    *("name=placeholder", "data=folder", "data.form=folder", "data.size=32", "data.workers=0", "data.minival=4"),
    *("model=convnet_tiny", "optimizer=adamw", "batch_size=4", "steps=4ba", "every.log=2ba", "every.evaluate=4ba"),
    *("every.checkpoint=4ba", "runtime.threads=1"),
)
_README = "<!-- paribus highlights: begin quickstart/cutmix. -->\n\n<!-- paribus highlights: end -->\n"
_RESULTS = "<!-- paribus results: begin {}. -->\n\n<!-- paribus results: end -->\n"
_EVALUATOR = '''"""An evaluator of one's own: the number of images."""
from paribus.core.build import schema
from paribus.core.sums import Sums, metric_sums

@schema
class Class:
    batch_size: int = 64

    @property
    def keys(self):
        return ("val/images",)

    def __call__(self, method, splits):
        sums = Sums()
        for batch in splits["val"](self.batch_size):
            sums = sums + metric_sums("val/images", batch.ids.double().sum(), len(batch.ids))
        return sums
'''


def make_stock(where: Path, monkeypatch) -> Path:  # type: ignore[no-untyped-def]
    """Once for all pages, what is trained: a run in runs/NAME, a study in STUDY, with its runs in runs/STUDY."""
    where.mkdir(parents=True)
    monkeypatch.chdir(where)
    pets(where / "TREE", train=6, val=4)
    (where / "TREE" / "boxes.csv").write_text("path,x0,y0,x1,y1\nval/cat/cat_0.png,2,3,20,25\n")
    files = sorted(path.relative_to(where / "TREE").as_posix() for path in (where / "TREE").glob("*/*/*.png"))
    lines = [f"{path},{k % 2}" for k, path in enumerate(files)]
    (where / "TREE" / "facts.csv").write_text("\n".join(["path,group", *lines]) + "\n")
    with printed_to(where / "printed"):  # an assertion shows what was printed
        assert dispatch(["train", *_RUN, "data.root=TREE"]) == 0, (where / "printed").read_text()
        (run,) = (where / "runs").iterdir()
        run.rename(where / "runs" / "NAME")
        study = written(
            where / "STUDY",
            recipe=["experiment=smoke", "data.minival=16", "steps=4ba", "every.evaluate=2ba", "every.log=2ba"],
        )
        assert dispatch(["study", "plan", "STUDY"]) == 0
        for cell in plans.require_plan(load_study(study.folder)).cells:
            words = build_command(Path("runs/STUDY"), cell)
            assert dispatch(words[words.index("train") :]) == 0
    return where


def lay_out(here: Path, stock: Path, text: str) -> Path:
    """The folder of a page. text: the page, which names the studies that it wants."""
    here.mkdir(parents=True)
    for name in ("TREE", "DIR", "photos"):
        shutil.copytree(stock / "TREE", here / name)
    shutil.copytree(stock / "TREE" / "val" / "cat", here / "PHOTOS")
    picture("one", 40, 50).save(here / "one.jpg")
    for name in ("NAME", "quickstart-baseline-s0-000000000000"):
        shutil.copytree(stock / "runs" / "NAME", here / "runs" / name)
    for name, target in {"RUN": "runs/NAME", "runs/NAME-HASH": "NAME"}.items():
        (here / name).symlink_to(target)
    for name in ("STUDY", "FOLDER", "experiments/STUDY"):
        shutil.copytree(stock / "STUDY", here / name)
    shutil.copytree(stock / "runs" / "STUDY", here / "runs" / "STUDY")
    (here / "runs" / "FOLDER").symlink_to("STUDY")
    _write_files(here)
    shutil.copytree(ROOT / "docs", here / "docs")
    (here / "README.md").write_text(_README)
    studies = {"quickstart", *_studies_in(text)}
    (here / "docs" / "results.md").write_text(_RESULTS.format(" ".join(sorted(studies))))
    for name in studies:
        shutil.copytree(ROOT / "experiments" / name, here / "experiments" / name)
    for name in ("scripts", "examples", *(["tests"] if "pytest" in text else [])):
        _link_files(ROOT / name, here / name)
    (here / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    return here


def _link_files(source: Path, target: Path) -> None:
    """Folders of its own with links to files: what a command adds does not land in this checkout."""
    shutil.copytree(source, target, copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__", "golden"))


def _write_files(here: Path) -> None:
    for name in ("model.json", "model.safetensors", "model.onnx"):
        (here / name).symlink_to(f"RUN/{name}")
    (here / "model.pt2").symlink_to("DIR/net.pt2")
    (here / "my.py").write_text(_EVALUATOR)
    arms: Sequence[str] = ("baseline", "mine")
    rows = [f"{arm},{seed},{50 + 3 * k + seed / 10}" for k, arm in enumerate(arms) for seed in range(6)]
    for name in ("results.csv", "FILE"):
        (here / name).write_text("\n".join(["arm,seed,accuracy", *rows]) + "\n")
    public_tables.write_correctness(here / "right.csv", public_tables.MLXTEND["A"])
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, here / "resnet18.pth")


def _studies_in(text: str) -> set[str]:
    named = set(re.findall(r"paribus [^\n`]*experiments/(\w+)", text))
    return {name for name in named if (ROOT / "experiments" / name / "study.yaml").is_file()}
