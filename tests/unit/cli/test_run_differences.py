"""What `paribus list runs` shows of the settings in which runs differ, and how it filters and sorts by them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.run_folders import made
from paribus.cli.list import found_runs, sort_runs
from paribus.cli.main import dispatch
from paribus.cli.run_differences import shorten
from paribus.cli.run_table import choose_columns, table
from paribus.runs.differences import find_differences, flatten, make_reader

SGD = {"_target_": "paribus.methods.optimizers.SGD", "lr": 0.1, "momentum": 0.9}
ADAMW = {"_target_": "paribus.methods.optimizers.AdamW", "lr": 0.001, "betas": [0.9, 0.999]}
CUTMIX = {"cutmix": {"_target_": "paribus.techniques.cutmix.CutMix", "alpha": 1.0}}


def config(**changes: Any) -> dict[str, Any]:
    return {
        "name": "x",
        "seed": 0,
        "steps": "60ba",
        "data": {"size": 32},
        "model": {"size": 8, "widths": [16, 32]},
        "optimizer": ADAMW,
        "transforms": {},
        "techniques": [],
        "paths": {"runs": "runs"},
    } | changes


def write(folder: Path, name: str, accuracy: float, **changes: Any) -> None:
    run = made(folder, name)
    (run / "config.yaml").write_text(yaml.safe_dump(config(**changes), sort_keys=False))
    metrics = {"val/acc1": accuracy, "val/loss": 1 - accuracy, "time/train_s": 2.0}
    (run / "summary.json").write_text(json.dumps({"step": 60, "steps": 60, "metrics": metrics}))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write(tmp_path, "a", 0.5)
    write(tmp_path, "b", 0.9, seed=1, paths={"runs": "elsewhere"})
    write(tmp_path, "c", 0.7, optimizer=SGD, model={"size": 8, "widths": [16, 64]})
    write(tmp_path, "d", 0.8, techniques=["cutmix"], transforms=CUTMIX)
    made(tmp_path, "e", "FAILED", "no", summary=False)
    return tmp_path


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[list[str]]:
    assert dispatch(["list", "runs", str(folder), *flags]) == 0
    return [line.split() for line in capsys.readouterr().out.split("\n\n")[0].splitlines()]


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, []),
        ({"seed": 1}, ["seed"]),
        ({"name": "y", "steps": "9ba", "paths": {"runs": "z"}, "tracker": {"wandb": None}}, []),
        ({"optimizer": {**ADAMW, "lr": 0.1}}, ["optimizer.lr"]),
        ({"optimizer": SGD}, ["optimizer._target_", "optimizer.lr"]),
        ({"transforms": CUTMIX}, ["transforms.cutmix._target_"]),
        ({"transforms": CUTMIX, "techniques": ["cutmix"], "seed": 3}, ["techniques", "seed"]),
        ({"model": {"size": 8, "widths": [16, 32], "depth": 2}}, []),  # a key that an earlier version did not write
        ({"data": {"size": 64}, "model": {"size": 9, "widths": [16, 32]}}, ["data.size", "model.size"]),
        ({"seed": False}, ["seed"]),  # not 0
    ],
)
def test_only_keys_that_differ_are_found(changes: dict[str, Any], keys: list[str]) -> None:
    assert find_differences([flatten(config()), flatten(config(**changes))]) == keys


def test_names_are_as_short_as_they_can_be() -> None:
    keys = flatten(config())
    assert shorten(["optimizer.lr", "optimizer._target_", "data.size", "seed"], keys) == {
        "optimizer.lr": "lr",
        "optimizer._target_": "optimizer",
        "data.size": "data.size",
        "seed": "seed",
    }


@pytest.mark.parametrize(
    "content",
    [
        config(),
        config(name="a: 'b'\n- c", notes="long " * 60, packages=["one", "two"], optimizer=SGD, empty=[], none=None),
    ],
)
def test_section_by_section_is_what_yaml_reads(content: dict[str, Any]) -> None:
    text = yaml.safe_dump(content, sort_keys=False)
    assert make_reader()(text) == flatten(yaml.safe_load(text))


def test_the_table_shows_what_differs_and_nothing_else(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, *lines = shown(runs, capsys)
    assert head[3:-6] == ["widths", "optimizer", "lr", "techniques", "seed"]
    assert lines[0][3:8] == ["16,32", "AdamW", "0.001", "none", "0"]
    assert lines[2][3:8] == ["16,64", "SGD", "0.1", "none", "0"]
    assert lines[3][3:8] == ["16,32", "AdamW", "0.001", "cutmix", "0"]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--where", "seed=1"], ["b"]),
        (["--where", "lr=1e-3"], ["a", "b", "d"]),
        (["--where", "optimizer.lr=0.1"], ["c"]),
        (["--where", "optimizer=AdamW", "--where", "seed=0"], ["a", "d"]),
        (["--where", "optimizer=paribus.methods.optimizers.SGD"], ["c"]),
        (["--where", "technique=cutmix"], ["d"]),
        (["--where", "technique=baseline", "--where", "state=done"], ["a", "b", "c"]),
        (["--where", "widths=[16, 64]"], ["c"]),
        (["--where", "state=failed"], ["e"]),
        (["--sort", "val/acc1"], ["b", "d", "c", "a", "e"]),
        (["--sort", "val/loss", "--where", "state=done"], ["b", "d", "c", "a"]),
    ],
)
def test_filters_and_sorts(flags: list[str], names: list[str], runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [line[0] for line in shown(runs, capsys, *flags)[1:]] == names
    assert dispatch(["list", "runs", str(runs), *flags, "--json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == names


def test_metrics_are_columns_in_the_order_asked_for(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, first, *_ = shown(runs, capsys, "--metric", "val/loss", "--metric", "val/acc1")
    at = head.index("val/loss")
    assert head[at : at + 2] == ["val/loss", "val/acc1"]
    assert first[at : at + 2] == ["0.5", "50.00%"]


def test_json_says_in_which_keys_they_differ(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["list", "runs", str(runs), "--json", "--where", "technique=baseline"]) == 0
    rows = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["b"]["differs"]["seed"] == 1
    assert rows["c"]["differs"]["optimizer.lr"] == 0.1
    assert "config" not in rows["a"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--where", "size=32"], "size may be data.size or model.size"),
        (["--where", "optimizer.lrr=1"], "no run has such a key (did you mean optimizer.lr"),
        (["--where", "seed"], "should be KEY=VALUE"),
        (["--where", "=1"], "should be KEY=VALUE"),
        (["--where", "state=finished"], "there are done, running"),
        (["--sort", "val/acc"], "(did you mean val/acc1"),
        (["--metric", "test/f1"], "no run has recorded it; there are lr, time/train_s, val/acc1, val/loss"),
    ],
)
def test_what_there_is_not_is_one_line(
    flags: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["list", "runs", str(runs), *flags]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_narrow_terminal_gives_up_differences_before_state_and_metric(width: int, runs: Path) -> None:
    from rich.console import Console

    rows = found_runs(runs)
    page = Console(width=width, force_terminal=True, color_system=None)
    with page.capture() as captured:
        page.print(table(rows, width))
    head, *lines = captured.get().splitlines()
    assert max(len(line.rstrip()) for line in [head, *lines]) <= width
    assert {"run", "state", "step", "acc1"} <= set(head.split())
    names = [column.name for column in choose_columns(rows) if column.name in head]
    assert ("techniques" in names) is (width >= 80)
    assert ("started" in names) is (width == 200)


def test_a_run_without_the_metric_is_last(runs: Path) -> None:
    assert [row.run for row in sort_runs(found_runs(runs), "time/train_s")][-1] == "e"
