"""A user's own configs, classes and technique: what is printed of them holds, and every printed command works."""

import json
import shlex
from pathlib import Path

import pytest

from paribus.cli.main import dispatch

MODULE = """
from torch import nn
from paribus.core.build import schema

MORE = 0

@schema
class Net:
    width: int = 8
    norm: bool = False

    def __call__(self, spec):
        norm = nn.BatchNorm1d(self.width) if self.norm else nn.Identity()
        first = nn.Linear(spec.channels * spec.height * spec.width, self.width)
        return nn.Sequential(nn.Flatten(), first, norm, nn.Linear(self.width, spec.classes + MORE))

@schema
class NeedsValues:
    def __call__(self, spec):
        return nn.Sequential(Reads(), Net(norm=True)(spec))

class Reads(nn.Module):
    def forward(self, inputs):
        return inputs * float(inputs.isfinite().all())  # no value of a tensor without values

@schema
class Tint:
    share: float = 0.5

    def __call__(self, batch, at):
        return batch
"""
TECHNIQUE = """# @package _global_
# Tints images.
transforms: {tint: {_target_: my_own_lab.Tint, share: 0.25}}
optimizer: {lr: 0.02}
overlays: {tint: {expect: {transforms.tint._target_: my_own_lab.Tint}}}
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a package and a folder of configs in it."""
    (tmp_path / "my_own_lab.py").write_text(MODULE)
    files = {
        "model/mine": "_target_: my_own_lab.Net\nwidth: 8\nnorm: false\n",
        "model/blind": "_target_: my_own_lab.NeedsValues\n",
        "technique/tint": TECHNIQUE,
        "experiment/open": "# @package _global_\nname: open\nsteps: ???\n",
    }
    for name, text in files.items():
        (tmp_path / "my configs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my configs" / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


COMMAND = ["train", "--config-dir", "my configs", "experiment=smoke", "packages=[my_own_lab]", "model=mine"]
COMMAND += ["steps=4ba", "every.log=2ba", "tracker=events", "runtime.threads=1", "runtime.device=cpu"]


def test_every_command_that_a_run_prints_works_as_it_is(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(COMMAND) == 0
    lines = capfd.readouterr().out.partition("\nnext\n")[2].splitlines()
    commands = {label.strip(): shlex.split(words) for label, _, words in (line.partition("paribus ") for line in lines)}
    assert list(commands) == ["evaluate again", "export weights", "compare", "another seed"]
    for label, words in commands.items():
        code = dispatch(words)
        out, err = capfd.readouterr()
        assert (label, code, err) == (label, 0, "")
        if label == "export weights":
            python = shlex.split(out.partition("read back:")[2])
            namespace: dict[str, object] = {}
            exec(python[2], namespace)
            assert type(namespace["model"]).__name__ == "Sequential"
    assert len(list((lab / "runs").iterdir())) == 2


@pytest.mark.parametrize("command", ["eval", "export", "verify"])
def test_a_package_that_is_not_given_is_named(lab: Path, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(COMMAND) == 0
    (folder,) = (lab / "runs").iterdir()
    capfd.readouterr()
    assert dispatch([command, str(folder)]) == 2
    err = capfd.readouterr().err
    full = f"; run: paribus verify {folder} 'packages=[my_own_lab]'" if command == "verify" else ""
    assert err.endswith(f"; this run was trained with packages=[my_own_lab]{full}\n")
    assert err.count("\n") == 1


def test_a_third_partys_technique_is_a_technique(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for overrides in (["technique=baseline"], ["technique=tint"]):
        assert dispatch([*COMMAND, *overrides]) == 0
    (one,), (other,) = ((lab / "runs").glob(f"smoke-{name}-*") for name in ("tint", "baseline"))
    capfd.readouterr()
    assert dispatch(["compare", str(one), "--against", str(other)]) == 0
    out = capfd.readouterr().out
    assert out.startswith("## tint against baseline\n")
    assert "recipes differ" not in out
    assert dispatch([*COMMAND, "technique=tint", "batch_size=16"]) == 0
    (smaller,) = {*(lab / "runs").glob("smoke-tint-*")} - {one}
    capfd.readouterr()
    assert dispatch(["compare", str(smaller), "--against", str(other)]) == 0
    assert "differ in more than techniques and seed: batch\\_size (16 against 32). What" in capfd.readouterr().out


def test_a_technique_of_a_run_that_did_not_record_its_keys_is_found_in_the_users_configs(
    lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for overrides in (["technique=baseline"], ["technique=tint"]):
        assert dispatch([*COMMAND, *overrides]) == 0
    (one,), (other,) = ((lab / "runs").glob(f"smoke-{name}-*") for name in ("tint", "baseline"))
    summary = json.loads((one / "summary.json").read_text())
    del summary["technique_keys"]  # as runs of 0.1 are
    (one / "summary.json").write_text(json.dumps(summary))
    command = ["compare", str(one), "--against", str(other)]
    for flags, unexplained in ([], True), (["--config-dir", "my configs"], False):
        capfd.readouterr()
        assert dispatch([*command, *flags]) == 0
        assert ("differ in more than techniques and seed" in capfd.readouterr().out) == unexplained


def test_a_network_that_has_changed_is_refused_with_its_shapes(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(COMMAND) == 0
    (folder,) = (lab / "runs").iterdir()
    capfd.readouterr()
    import my_own_lab  # pyright: ignore[reportMissingImports] — written by the fixture

    monkeypatch.setattr(my_own_lab, "MORE", 3)
    assert dispatch(["eval", str(folder), "packages=[my_own_lab]"]) == 2
    err = capfd.readouterr().err
    assert f"{folder}: the checkpoint at step 4 does not fit this network: 2 of another shape: " in err
    assert "3.weight (10, 8) in the file, (13, 8) in the network" in err


@pytest.mark.parametrize("batch", ["batch_size=1", "batch_size=2 update.accumulate=2"])
@pytest.mark.parametrize("model", ["model=mine model.norm=true", "model=blind"])
def test_one_value_per_channel(lab: Path, model: str, batch: str, capfd: pytest.CaptureFixture[str]) -> None:
    command = [word for word in COMMAND if not word.startswith("model=")]
    assert dispatch([*command, *model.split(), *batch.split()]) == 2
    err = capfd.readouterr().err
    assert "BatchNorm gets one value per channel" in err
    assert batch.split()[0] in err
    assert "update.accumulate=" in err
    assert err.count("\n") == 1
    # of a network that runs only with values, it shows in the first step
    assert (lab / "runs").exists() == (model == "model=blind")


def test_two_values_per_channel_are_enough(lab: Path) -> None:
    assert dispatch([*COMMAND, "model.norm=true", "batch_size=4", "update.accumulate=2"]) == 0


def test_a_value_that_an_experiment_leaves_open(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["train", "--config-dir", "my configs", "experiment=open", "tracker=events"]) == 2
    assert capfd.readouterr().err == "paribus: steps: missing value (???); give steps=VALUE\n"
    assert not (lab / "runs").exists()
