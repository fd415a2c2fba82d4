"""A run folder that paribus 0.1.0 wrote, before its packages were laid out anew: it goes on working, to the bit.

tests/golden/run_0.1.0 is what this left behind (12 steps on 100 digits, 2 checkpoints), with its export:

    paribus train data=digits data.train_size=100 model=convnet_tiny optimizer=adamw "technique=[cutmix,adamp]" name=old
    steps=12ba batch_size=32 every.log=2ba every.evaluate=6ba every.checkpoint=6ba runtime.threads=1 "tracker=[events]"
    runtime.device=cpu

It is never recorded again: that it names classes where they once were is the point.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from helpers.recorded_losses import FILE, platform
from paribus.cli.main import dispatch

RECORDED = Path(__file__).with_name("run_0.1.0")
ID, NAME = "313c3b932a7a", "old-cutmix+adamp-s0-313c3b932a7a"
# as in test_golden.py: bits are promised on the platform that recorded them, elsewhere a tolerance
EXACT = json.loads(FILE.read_text())["platform"] == platform()
SAME = [] if EXACT else ["--tolerance", "0.03"]
UNCHECKED = (
    f"warning: the checkpoint of runs/{NAME} is from before class names were kept; labels are taken by their position, "
    "unchecked\n"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the recorded run at the place where `paribus train` looks for it."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(RECORDED, Path("runs") / NAME))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def computed_values(folder: Path) -> list[Any]:
    """What repeats: steps with losses and accuracies, without clocks and memory, or metrics that came later."""
    events = lines(folder / "events.jsonl")
    repeats = [(e["step"], k, v) for e in events for k, v in e["values"].items() if k.startswith(("train/", "val/"))]
    return [one for one in repeats if one[1] != "train/unmixed_loss"]


def test_it_names_classes_where_they_were() -> None:
    config = yaml.safe_load((RECORDED / "config.yaml").read_text())
    assert config["every"]["_target_"] == "paribus.cli.compose.EveryConfig"


def test_it_is_evaluated_to_the_same_numbers(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["eval", str(run)]) == 0
    out, err = capsys.readouterr()
    assert err == UNCHECKED
    found = dict(re.findall(r"(val/\w+)\s+([\d.]+)", out))
    recorded = json.loads((RECORDED / "summary.json").read_text())["metrics"]
    assert {key: float(value) for key, value in found.items()} == pytest.approx(
        {key: recorded[key] for key in ("val/acc1", "val/acc5", "val/loss")}, abs=1e-6 if EXACT else 0.03
    )


def test_its_export_has_the_same_weights_and_the_recorded_export_is_read(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import paribus

    (run / "model.safetensors").unlink()
    assert dispatch(["export", str(run)]) == 0
    assert "is from before class names were kept; the export has none\n" in capsys.readouterr().err
    assert (run / "model.safetensors").read_bytes() == (RECORDED / "model.safetensors").read_bytes()
    recorded, written = (json.loads((where / "model.json").read_text()) for where in (RECORDED, run))
    assert {key: written[key] for key in recorded} == recorded  # an export says more today
    assert (written["techniques"], written["seed"]) == (["cutmix", "adamp"], 0)
    old, new = paribus.load(RECORDED / "model.safetensors"), paribus.load(run / "model.safetensors")
    assert old.class_names == new.class_names == old.class_ids == ()
    assert (old.about.metrics, old.about.recipe, old.about.preprocessing) == (new.about.metrics, {}, None)
    assert dispatch(["eval", str(RECORDED / "model.safetensors")]) == 2
    assert "is from before an export kept its recipe; export the run again" in capsys.readouterr().err
    inputs = torch.rand(2, 1, 8, 8)
    assert torch.equal(old(inputs), new(inputs))


def test_it_is_verified_from_its_first_step_and_from_its_checkpoint(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for span in ("0:12", "6:12"):
        assert dispatch(["verify", str(run), "--span", span, *SAME]) == 0
        assert not EXACT or "bit-exact" in capsys.readouterr().out


def test_negative_control_a_changed_loss_is_found(run: Path) -> None:
    path = run / "receipts.jsonl"
    path.write_text(path.read_text().replace("2.302220106124878", "2.402220106124878"))
    assert dispatch(["verify", str(run), "--span", "0:12", *SAME]) != 0


def test_it_resumes_from_its_checkpoint_under_its_own_id(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As after a kill between the last log line and the last checkpoint."""
    for name in ("DONE", "summary.json", "checkpoints/step_00000012.pt"):
        (run / name).unlink()
    (run / "checkpoints" / "last").write_text("step_00000006.pt\n")
    command = json.loads((RECORDED / "provenance.json").read_text())["segments"][0]["command"]
    assert dispatch(["train", *command[1:]]) == 0
    assert UNCHECKED in capsys.readouterr().err
    assert [folder.name for folder in Path("runs").iterdir()] == [NAME]
    segments = json.loads((run / "provenance.json").read_text())["segments"]
    assert [segment["start_step"] for segment in segments] == [0, 6]
    assert json.loads((run / "summary.json").read_text())["id"] == ID
    if EXACT:
        assert lines(run / "receipts.jsonl") == lines(RECORDED / "receipts.jsonl")
        assert computed_values(run) == computed_values(RECORDED)


def test_a_finished_one_is_found_finished(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = json.loads((RECORDED / "provenance.json").read_text())["segments"][0]["command"]
    assert dispatch(["train", *command[1:]]) == 0
    assert "is done already" in capsys.readouterr().out
