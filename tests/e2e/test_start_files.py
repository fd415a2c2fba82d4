"""After step 0 nothing of the file that a run started from is needed; what needs it says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from helpers import start_files
from helpers.start_files import WAYS, plain
from helpers.trainings import Result, recipe_of, stopping_after, trained
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError
from paribus.engine import checkpoint
from paribus.models.exported import load
from paribus.recipe.identity import computed_part, hash_recipe

SHORT = ("steps=8ba", "every.log=2ba", "every.evaluate=4ba", "every.checkpoint=4ba", "checkpoints.keep=9")
Told = Callable[..., tuple[int, str, str]]
ways = pytest.mark.parametrize("way", ["an export", "the recipe's own key", "one's own class"])


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Told:
    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = dispatch(list(arguments))
        return code, *capfd.readouterr()

    return call


def delete(file: Path) -> None:
    for path in file.parent.glob(f"{file.stem}.*"):
        path.unlink()


def stopped_and_whole(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[str], Result, Result]:
    """The start file, the overrides that name it, a run stopped after step 6, and the same without a stop."""
    write, overrides, _ = WAYS[way]
    file = write(tmp_path / "start.safetensors")
    named = [*overrides(file), *SHORT]
    whole = trained(tmp_path / "whole", *named)
    with monkeypatch.context() as patched:
        stopping_after(patched, 6)
        stopped = trained(tmp_path / "parts", *named)
    assert stopped.code == 75
    return file, named, stopped, whole


@ways
def test_after_the_first_step_the_file_is_not_needed(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    file, named, stopped, whole = stopped_and_whole(way, tmp_path, monkeypatch)
    name = WAYS[way][2]
    code, evaluated, _ = told("eval", str(whole.folder), "packages=[helpers]")
    assert code == 0
    delete(file)

    with pytest.raises(ConfigError, match=rf"^{name}: .*start\.safetensors: No such file.* cannot start without it"):
        trained(tmp_path / "fresh", *named)
    assert not (tmp_path / "fresh").exists()

    resumed = trained(tmp_path / "parts", *named)  # the same command
    assert resumed.folder == stopped.folder
    assert resumed.same_as(whole)
    assert trained(tmp_path / "parts", *named).folder == stopped.folder  # is done already

    assert told("eval", str(whole.folder), "packages=[helpers]")[:2] == (0, evaluated)
    assert told("export", str(whole.folder), "packages=[helpers]")[0] == 0
    model = load(whole.folder / "model.safetensors", packages=["helpers"])
    assert all(torch.equal(value, whole.weights[key]) for key, value in model.state_dict().items())
    assert str(tmp_path) not in (whole.folder / "model.json").read_text()

    code, out, _ = told("verify", str(whole.folder), "packages=[helpers]", "--span=4:8")
    assert (code, "bit-exact" in out) == (0, True), out
    code, _, err = told("verify", str(whole.folder), "packages=[helpers]")
    assert code == 2
    assert f"{name}: {file}: it is not there, and the replay starts from it" in err


@ways
def test_without_a_checkpoint_the_file_is_needed_again(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: otherwise the run would begin again from random weights, under the id of the file's."""
    file, named, stopped, _ = stopped_and_whole(way, tmp_path, monkeypatch)
    delete(file)
    before = (stopped.folder / "provenance.json").read_text()
    for path in (stopped.folder / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="it is not there, and a run without a checkpoint starts from it"):
        trained(tmp_path / "parts", *named)
    assert (stopped.folder / "PREEMPTED").exists()
    assert (stopped.folder / "provenance.json").read_text() == before


def test_another_file_under_the_same_name_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    file, named, stopped, whole = stopped_and_whole("an export", tmp_path, monkeypatch)
    start_files.export(file, seed=1)
    other = trained(tmp_path / "whole", *named)  # not "is done already"
    assert other.folder != whole.folder
    assert other.events != whole.events
    code, _, err = told("verify", str(whole.folder))
    assert code == 2
    assert "has the sha256" in err
    assert told("verify", str(whole.folder), "--span=4:8")[0] == 0
    assert told("eval", str(whole.folder))[0] == 0
    # a run that is demanded by its checksum, as a study's cell is, does not go on under the other file
    recorded = yaml.safe_load((stopped.folder / "config.yaml").read_text())["model"]["path_sha256"]
    with pytest.raises(ConfigError, match=f"the recipe demands {recorded}"):
        trained(tmp_path / "parts", *named, f"++model.path_sha256='{recorded}'")
    delete(file)  # two runs have begun with a file of this name
    trained(tmp_path / "whole", *named, f"++model.path_sha256='{recorded}'")
    with pytest.raises(ConfigError, match="2 runs began with such a file"):
        trained(tmp_path / "whole", *named)


def test_a_run_recorded_without_a_checksum_is_evaluated_while_the_file_is_there(tmp_path: Path, told: Told) -> None:
    """As an earlier version left it behind: its config.yaml and checkpoints know the path alone."""
    _, overrides, _ = WAYS["an export"]
    file = start_files.export(tmp_path / "start.safetensors")
    run = trained(tmp_path / "runs", *overrides(file), *SHORT)
    config: Any = yaml.safe_load((run.folder / "config.yaml").read_text())
    for key in ("path_sha256", "network", "inputs"):
        config["model"].pop(key)
    (run.folder / "config.yaml").write_text(yaml.safe_dump(config))
    old_id = hash_recipe(computed_part(config))
    for path in (run.folder / "checkpoints").glob("step_*.pt"):
        state = checkpoint.load(path)
        checkpoint.save(run.folder, checkpoint.Checkpoint(state.step, old_id, state.method, state.loop), 9)
    summary = run.folder / "summary.json"
    summary.write_text(summary.read_text().replace(run.folder.name[-12:], old_id))
    for command in (["eval"], ["export"], ["verify"], ["verify", "--span=4:8"]):
        code, _, err = told(command[0], str(run.folder), *command[1:])
        assert code == 0, err
    delete(file)
    code, _, err = told("eval", str(run.folder))
    assert code == 2
    assert "start.json: No such file or directory" in err


def test_an_export_as_a_start_learns_on(tmp_path: Path) -> None:
    """From a run to its export to a run to its export: each loads alone, and the second began where the first ended."""
    first = trained(tmp_path / "runs", "experiment=smoke", "name=first", *SHORT)
    assert dispatch(["export", str(first.folder), "--out", str(tmp_path / "first.safetensors")]) == 0
    _, overrides, _ = WAYS["an export"]
    still = [*overrides(tmp_path / "first.safetensors"), "optimizer.lr=1e-30", "optimizer.weight_decay=0.0"]
    second = trained(tmp_path / "runs", *still, "name=second", *SHORT)
    assert all(torch.equal(value, first.weights[key]) for key, value in second.weights.items())
    assert dispatch(["export", str(second.folder), "--out", str(tmp_path / "second.safetensors")]) == 0
    delete(tmp_path / "first.safetensors")
    assert all(torch.equal(v, first.weights[k]) for k, v in load(tmp_path / "second.safetensors").state_dict().items())


def test_the_id_is_known_before_any_data_is_read(tmp_path: Path) -> None:
    _, overrides, _ = WAYS["one's own class"]
    named = [*overrides(plain(tmp_path / "a.safetensors")), "data=cifar10"]
    assert recipe_of(*named, f"data.root={tmp_path}/nowhere").id == recipe_of(*named).id
