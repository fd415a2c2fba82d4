"""`paribus train --help`: every key of the recipe in a line, and groups with options, types and ranges."""

from pathlib import Path

import pytest

from paribus.cli import train_help
from paribus.cli.main import dispatch
from paribus.recipe.compose import compose_config
from paribus.recipe.configs import find_config_folder
from paribus.recipe.describe_keys import DescribedKey
from paribus.recipe.key_docs import read_class
from paribus.recipe.near_keys import list_keys

NOT_SHOWN = ("overlays", "packages")


def leaves(overrides: list[str]) -> list[str]:
    keys = list_keys(compose_config(overrides))
    inner = {key.rpartition(".")[0] for key in keys}
    return [k for k in keys if k not in inner and not k.startswith("overlays") and not k.endswith("_target_")]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["experiment=cifar10_small_vit", "technique=[pit,cutmix,adamp]"],
        ["data=imagenette", "model=resnet50", "method=distilled", "optimizer=sgd"],
    ],
)
def test_every_key_of_the_recipe_is_a_line_with_its_meaning(
    overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["train", *overrides, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = {line.split("=")[0].strip(" +"): line for line in out.splitlines() if "=" in line}
    for key in leaves(overrides):
        assert key in lines, key
        assert len(lines[key].split(None, 1)) == 2, f"{key} has no description"
    assert out.count("paribus train ") >= 4, "usage and three examples"


def test_a_key_with_few_choices_names_them() -> None:
    folders = [find_config_folder()]
    lines = train_help.format_overview(compose_config(["data=imagenette", "model=resnet50"]), [], folders, 1000)
    said = {key: text for key, text in (line.strip().partition(" ")[::2] for line in lines) if "=" in key}
    assert said["update.precision=fp32"].strip() == "fp32, bf16, fp16 or fp64"
    assert said["tracker.wandb.mode=auto"].endswith("; one of auto, online, offline, disabled")
    assert said["runtime.compile=false"].endswith(
        "; one of true, false, reduce-overhead, max-autotune, max-autotune-no-cudagraphs"
    )
    for several in ("runtime.threads=auto", "runtime.tf32=false", "optimizer.lr=0.001"):  # any number, true or false
        assert "one of" not in said[several]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Literal['a', 'b']", "what it is; one of a, b"),
        ("Literal['a', 'what']", "what it is; one of a, what"),
        ("Literal['what', 'is']", "what it is"),
        ("Literal['a', 'hat'] | None", "what it is; one of a, hat, null"),
        ("Alias | Literal['auto']", "what it is; one of 1, 2, auto"),
        ("Literal[1, 2, 3, 4, 5, 6]", "what it is; one of 1, 2, 3, 4, 5, 6"),
        ("Literal[1, 2, 3, 4, 5, 6, 7]", "what it is"),
        ("int | Literal['auto']", "what it is"),
        ("list[Literal['a', 'b']]", "what it is"),
        ("bool", "what it is"),
    ],
)
def test_which_types_have_choices(kind: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"choices_{abs(hash(kind))}"  # a module is parsed once
    source = f"Alias = Literal[1, 2]\n@schema\nclass A:\n    'key: what it is.'\n    key: {kind}\n"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    doc = read_class(f"{name}.A")
    assert doc is not None
    line = " ".join(train_help._key_line(DescribedKey("key", 1, False, doc.keys[0]), 1000))
    assert line.split(None, 1)[1] == text


def test_a_technique_that_swaps_a_class_brings_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["train", "experiment=smoke", "technique=adamp", "-h"]) == 0
    shown = capsys.readouterr().out
    assert "optimizer.delta=0.1" in shown
    assert "taken for scale-invariance" in shown


def test_of_a_sweep_the_first_values_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["train", "-m", "optimizer=sgd,adamw", "optimizer.lr=0.5,0.1", "--help"]) == 0
    assert "  optimizer.lr=0.5 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "shown", "hidden"),
    [
        (
            ["--help", "optimizer"],
            ["optimizer=adamw", "optimizer.momentum=0.9", "number ≥ 0, < 1"],
            [],
        ),
        (["optimizer", "--help"], ["optimizer=sgd"], ["data."]),
        (["--help", "optimizer.lr"], ["optimizer.lr=0.001", "optimizer.lr=0.1"], ["momentum="]),
        (["--help", "technique"], ["transforms.cutmix.alpha=1.0", "technique=adamp", "optimizer.delta"], []),
        (["--help", "data"], ["data.root=null", "PARIBUS_DATA", "RandAugment", "data.augment.NAME.magnitude"], []),
        (["--help", "update"], ["update.precision=fp32", "fp32 | bf16 | fp16 | fp64"], ["optimizer."]),
        (["--help", "experiment"], ["quickstart", "paribus train experiment=NAME --help"], []),
        (["--help", "model"], ["model=resnet18|resnet50|timm (values of timm)", "model.widths"], []),
        (["--help", "seed"], ["seed=0", "whole number ≥ 0"], ["steps="]),
    ],
)
def test_a_group_with_its_options(
    words: list[str], shown: list[str], hidden: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["train", *words]) == 0
    out = capsys.readouterr().out
    assert [text for text in shown if text not in out] == []
    assert [text for text in hidden if text in out] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--help", "optimiser"], "no group optimiser (did you mean optimizer?); there are experiment, technique"),
        (["--help", "lr"], "no group lr (did you mean optimizer.lr?)"),
        (["--help", "data", "model"], "one group at a time"),
        (["--help", "experiment=nowhere"], "there is no such experiment"),
        (["--help", "optimizer.lrr=1"], "optimizer.lrr: no such key (did you mean optimizer.lr"),
    ],
)
def test_what_there_is_not_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["train", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("width", [40, 59, 60, 80, 200])
def test_a_terminal_is_never_overrun(width: int) -> None:
    folder = find_config_folder()
    pages = [train_help.format_overview(compose_config([]), [], [], width)]
    pages += [train_help.format_group(name, [folder], width) for name in ("data", "technique", "runtime", "every")]
    for page in pages:
        assert [line for line in page if len(line) > width and " " in line.strip()] == []
    whole = [line.strip().split(" ")[0] for line in pages[0]]
    assert {"optimizer.lr=0.001", "tracker.wandb.sync_timeout=60.0", "seed=0"} <= set(whole)


def test_own_configs_and_own_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lab" / "experiment").mkdir(parents=True)
    (tmp_path / "lab" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n# My own.\ndefaults: [smoke]\npackages: [lab_of_help]\n"
        "objective: {_target_: lab_of_help.Flat}\n"
    )
    (tmp_path / "lab_of_help.py").write_text(
        "@schema\nclass Flat:\n    '''smoothing: as I like it.'''\n    smoothing: float = 0.0\n    deep: int = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert dispatch(["train", "--config-dir", "lab", "experiment=mine", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "as I like it" in shown
    assert "+objective.deep=3" in shown
    assert dispatch(["train", "--config-dir=lab", "--help", "experiment"]) == 0
    assert "My own." in capsys.readouterr().out
