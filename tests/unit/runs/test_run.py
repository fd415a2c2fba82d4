"""A run folder from Python: its state, values, curves and weights, and many of them in order."""

import os
from pathlib import Path

import pytest
import torch

import paribus
from helpers.run_folders import made
from helpers.trainings import trained
from paribus.core.errors import ConfigError
from paribus.core.lock import locked
from paribus.runs.run import Run


def test_what_a_run_says_of_itself(tmp_path: Path) -> None:
    run = Run(made(tmp_path, "smoke-baseline-s0-0a"))
    assert run.state == "done"
    assert run.metrics == {"val/acc1": 0.5, "lr": 1}
    assert run.config["steps"] == "60ba"
    assert run.history("val/acc1") == ([10], [0.5])
    assert run.rows() == [{"step": 10, "val/acc1": 0.5}, {"step": 20, "lr": 1}]
    assert repr(run) == f"Run('{tmp_path}/smoke-baseline-s0-0a': done, val/acc1 50.00%)"


@pytest.mark.parametrize("marker", ["DONE", "FAILED", "PREEMPTED"])
def test_its_state_is_its_marker(marker: str, tmp_path: Path) -> None:
    assert Run(made(tmp_path, "a", marker)).state == marker.lower()


def test_without_a_marker_it_runs_if_somebody_holds_it(tmp_path: Path) -> None:
    run = Run(made(tmp_path, "a", None, summary=False))
    assert run.state == "stopped"
    with locked(run.path):
        assert run.state == "running"


def test_of_a_run_without_a_record_the_summary_is_left(tmp_path: Path) -> None:
    run = Run(made(tmp_path, "a"))
    (run.path / "events.jsonl").unlink()
    assert run.metrics["val/acc1"] == 0.98765


def test_a_metric_that_is_not_there_is_an_error_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no val/acc; it has lr, val/acc1"):
        Run(made(tmp_path, "a")).history("val/acc")


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run there"):
        Run(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        paribus.runs(tmp_path / "rnus")


def test_runs_of_a_folder_are_a_list_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x-s10-0a", "x-s2-0b"):
        made(tmp_path / "runs", name)
    (tmp_path / "runs" / "no run").mkdir()
    monkeypatch.chdir(tmp_path)
    found = paribus.runs()
    assert [run.path.name for run in found] == ["x-s2-0b", "x-s10-0a"]
    first = {"run": "x-s2-0b", "state": "done", "name": "x", "techniques": "", "seed": 0}
    first |= {"val/acc1": 0.5, "last/lr": 1, "path": "runs/x-s2-0b"}
    assert found.rows()[0] == first
    assert "<td>x-s10-0a</td>" in found._repr_html_()


def test_a_table_of_runs_has_what_differs_to_group_by(tmp_path: Path) -> None:
    optimizers = ["{lr: 0.1}", "{lr: 0.1, betas: [0.9, 0.99]}", "{lr: 0.01, betas: [0.9, 0.999]}"]
    for i, optimizer in enumerate(optimizers):
        config = made(tmp_path, f"x-s{i}", summary=i > 0) / "config.yaml"
        config.write_text(f"name: x\nseed: {i}\ntechniques: [cutmix]\nsize: 32\noptimizer: {optimizer}\n")
    rows = paribus.runs(tmp_path).rows()
    assert rows.columns[:7] == ["run", "state", "name", "techniques", "seed", "optimizer.lr", "optimizer.betas"]
    assert {"size", "lr"} & set(rows.columns) == set(), "neither what is the same nor the rate at the last step"
    assert [row["optimizer.betas"] for row in rows] == [None, (0.9, 0.99), (0.9, 0.999)]
    accuracies: dict[float, list[float]] = {}
    for row in rows:
        accuracies.setdefault(row["optimizer.lr"], []).append(row["val/acc1"])
    assert accuracies == {0.1: [0.5, 0.5], 0.01: [0.5]}


def test_pandas_groups_runs_by_what_differs(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    for name, rate, betas in (("a", 0.1, [0.9, 0.99]), ("b", 0.1, [0.5, 0.9]), ("c", 0.01, [0.9, 0.99])):
        text = f"name: x\nseed: 0\noptimizer: {{lr: {rate}, betas: {betas}}}\n"
        (made(tmp_path, name) / "config.yaml").write_text(text)
    frame = paribus.runs(tmp_path).frame()
    for key, counts in (("optimizer.lr", {0.01: 1, 0.1: 2}), ("optimizer.betas", {(0.5, 0.9): 1, (0.9, 0.99): 2})):
        assert frame.groupby(key)["val/acc1"].count().to_dict() == counts


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    (made(tmp_path, "a") / "config.yaml").write_text("seed: [\n")
    with pytest.raises(ConfigError, match=r"a/config\.yaml is damaged"):
        paribus.runs(tmp_path).rows()


@pytest.mark.parametrize("decay", ["null", "0.9"])
def test_its_network_is_the_one_that_was_evaluated(decay: str, tmp_path: Path) -> None:
    folder = trained(tmp_path, "experiment=smoke", "steps=8ba", f"ema.decay={decay}").folder
    network = Run(folder).load()
    newest = sorted((folder / "checkpoints").glob("step_*.pt"))[-1]
    state = torch.load(newest, weights_only=True)["method"]
    kept = state["ema"] if decay != "null" else state["model"]
    assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())
    assert not network.training
    assert network(torch.zeros(2, 3, 12, 12)).shape == (2, 10)


def test_a_run_without_a_checkpoint_has_no_network(tmp_path: Path) -> None:
    folder = trained(tmp_path, "experiment=smoke", "steps=2ba").folder
    for path in (folder / "checkpoints").iterdir():
        os.unlink(path)
    with pytest.raises(ConfigError, match="no checkpoint yet"):
        Run(folder).load()
