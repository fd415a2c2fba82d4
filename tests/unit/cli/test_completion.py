"""The Tab key, as words and in real shells."""

from pathlib import Path

import pytest

from helpers.run_folders import to_complete
from paribus.cli.completion import SCRIPTS, candidates
from paribus.cli.main import dispatch
from paribus.cli.tree import ROOT
from paribus.recipe.configs import list_options


@pytest.fixture(autouse=True)
def _a_folder_with_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    to_complete(tmp_path)
    for name in ("technique/tint", "data/squares"):  # of a user's own
        (tmp_path / "own" / name).parent.mkdir(parents=True)
        (tmp_path / "own" / f"{name}.yaml").write_text("")


SMOKE = [f"experiment=smoke_{kind}" for kind in ("captions", "groups", "images", "mobile", "translation", "vit")]
EXPECTED = {
    "": ROOT.listed(),
    "tr": ["train"],
    "--v": ["--version"],
    "list t": ["techniques"],
    "list runs e": ["elsewhere/"],
    "list runs --": ["--help", "--json", "--metric", "--sort", "--where"],
    "clean --": ["--help", "--json", "--packs", "--yes"],
    "completion ": ["bash", "zsh", "fish"],
    "train --q": ["--quiet"],
    "train --cfg ": ["job"],
    "train --config-dir e": ["elsewhere/"],
    "train exp": ["experiment="],
    "train experiment=smoke_": SMOKE,
    "train technique=cutm": ["technique=cutmix"],
    "train technique=[cutmix,sg": ["technique=[cutmix,sgdp"],
    "train technique=[cutmix,cutm": [],
    "train -m technique=baseline,cutm": ["technique=baseline,cutmix"],
    "train model=": [f"model={name}" for name in list_options("model")],
    "train experiment=smoke data=c": [
        "data=cifar10",
        "data=cifar100",
        "data=cifar100_c",
        "data=cifar10_c",
        "data=cluttered_mnist",
        "data=compas",
    ],
    "train data.root=else": ["data.root=elsewhere/"],
    "train optimizer.mo": ["optimizer.momentum="],
    "train batch": ["batch_size="],
    "train seed=": [],
    "train --config-dir own technique=t": ["technique=tint"],
    "train technique=t": [],
    "check technique --config-dir=own t": ["tint"],
    "bench techniques -cd ow": ["own/"],
    "eval runs/smoke-cutmix-s1-0b --config-dir own data=s": ["data=shape_captions", "data=squares", "data=synthetic"],
    "eval ": ["runs/smoke-cutmix-s0-0a", "runs/smoke-cutmix-s1-0b"],
    "eval ru": ["runs/smoke-cutmix-s0-0a", "runs/smoke-cutmix-s1-0b"],
    "eval runs/smoke-cutmix-s1": ["runs/smoke-cutmix-s1-0b"],
    "eval runs/smoke-cutmix-s1-0b/": ["runs/smoke-cutmix-s1-0b/checkpoints/"],
    "eval else": ["elsewhere/"],
    "eval runs/smoke-cutmix-s1-0b data=dig": ["data=digit_tiles", "data=digits"],
    "export r": ["runs/smoke-cutmix-s0-0a", "runs/smoke-cutmix-s1-0b"],
    "export --": ["--help", "--onnx", "--out", "--pt2"],
    "verify ru": ["runs/smoke-cutmix-s0-0a", "runs/smoke-cutmix-s1-0b"],
    "verify --s": ["--span", "--steps", "--study"],
    "study ": ["plan", "run", "status", "cancel", "import", "measure", "noise", "report"],
    "study noise exper": ["experiment="],
    "study noise experiment=smoke_": SMOKE,
    "study noise study --m": ["--margin", "--metric"],
    "study noise --json e": ["elsewhere/"],
    "study measure study --e": ["--evaluators"],
    "study measure study evaluators.acc": ["evaluators.accuracy="],
    "study --": ["--help"],
    "study run study --w": ["--workers"],
    "study run study --fo": ["--for"],
    "study run study --for ": [],
    "study run study --cluster ": ["slurm"],
    "study run study --cluster=s": ["--cluster=slurm"],
    "study run study --workers ": [],
    "study plan study --runs e": ["elsewhere/"],
    "study import study e": ["elsewhere/"],
    "data prepare imagew": ["imagewoof"],
    "data prepare --on-error ": ["raise", "skip"],
    "data prepare --on-error skip fol": ["folder"],
    "bench techniques cutmix s": ["sgdp"],
    "compare else": ["elsewhere/"],
    "compare runs/smoke-cutmix-s0-0a --against runs/smoke-cutmix-s1": ["runs/smoke-cutmix-s1-0b"],
    "compare a --against b runs/smoke-cutmix-s1": ["runs/smoke-cutmix-s1-0b"],
    "compare a --fail-if m": ["maybe-worse"],
    "export --out e": ["elsewhere/"],
    "export --out=e": ["--out=elsewhere/"],
    "verify runs/smoke-cutmix-s1-0b data": ["data.root="],
    "verify runs/smoke-cutmix-s1-0b data.root=e": ["data.root=elsewhere/"],
    "verify data.root=e": ["data.root=elsewhere/"],
    "wandb s": ["sync"],
    "wandb snyc r": [],
    "no-such-command ": [],
    "eval nowhere/": [],
}


@pytest.mark.parametrize("line", EXPECTED)
def test_what_a_word_may_become(line: str) -> None:
    assert candidates(line.split(" ")) == EXPECTED[line]


def test_folders_of_studies_and_cards_are_whole_words(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / "experiments" / name).mkdir(parents=True)
        (tmp_path / "experiments" / name / "study.yaml").write_text("")
    (tmp_path / "docs" / "cards").mkdir(parents=True)
    (tmp_path / "docs" / "cards" / "cutmix.yaml").write_text("")
    assert candidates(["study", "status", ""]) == ["experiments/first", "experiments/second"]
    assert candidates(["study", "status", "experiments/s"]) == ["experiments/second"]
    assert candidates(["study", "noise", "experiments/s"]) == ["experiments/second"]
    assert candidates(["study", "import", "experiments/first", "experiments/second/s"]) == [
        "experiments/second/study.yaml"
    ]
    assert candidates(["cards", "c"]) == ["cutmix"]


def test_the_hidden_command_is_hidden(capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["_complete", "tr"]) == 0
    assert capfd.readouterr().out == "train\n"
    assert dispatch(["_complete"]) == 0
    assert dispatch(["nothing"]) == 2
    assert "_complete" not in capfd.readouterr().err
    assert dispatch(["completion", "tcsh"]) == 2
    assert "bash|zsh|fish" in capfd.readouterr().err


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_how_to_switch_it_on(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["completion", name]) == 0
    assert f"paribus completion {name}" in capfd.readouterr().out
