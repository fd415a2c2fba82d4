"""The commands as a user types them: help at once, one line for every mistake, nothing left behind."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

from paribus.cli.main import dispatch

Run = Callable[..., CompletedProcess[str]]


def test_help_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys; from paribus.cli.main import dispatch; dispatch(['--help']); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "paribus train" in shown.stdout
    assert shown.stdout.endswith("False\n")


@pytest.mark.timing
def test_help_is_instant(paribus: Run, tmp_path: Path) -> None:
    seconds: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        done = paribus("--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - start)
    assert done.returncode == 0
    assert "paribus train" in done.stdout
    assert min(seconds) < 0.5


def test_train_help_and_cfg_leave_no_folder(paribus: Run, tmp_path: Path) -> None:
    shown = paribus("train", "--help", cwd=tmp_path, fresh=True)
    assert ": adamp, baseline, calm, cgl, cutmix" in shown.stdout
    cfg = paribus("train", "experiment=smoke", "technique=cutmix", "--cfg", "job", cwd=tmp_path)
    assert yaml.safe_load(cfg.stdout)["transforms"]["cutmix"]["alpha"] == 1.0
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_command_and_an_unknown_list(capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["trian"]) == 2
    assert dispatch(["list", "teckniques"]) == 2
    assert dispatch(["eval"]) == 2
    assert dispatch(["eval", "nowhere"]) == 2  # and says so
    assert capfd.readouterr().err.count("\n") == 4
    assert dispatch(["list", "experiments"]) == 0
    assert "smoke" in capfd.readouterr().out


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m paribus.cli train --help | head -1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("paribus train")
    assert done.stderr == ""


def test_ctrl_c_before_training_is_one_line(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "paribus.cli", "train", "experiment=smoke"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.5)  # while torch is being imported
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, 75), err
    assert "Traceback" not in err


def test_a_run_its_evaluation_its_listing_and_the_same_command_again(paribus: Run, tmp_path: Path) -> None:
    command = ("train", "experiment=smoke", "technique=cutmix", "steps=20ba", "runtime.threads=1")
    first = paribus(*command, cwd=tmp_path, fresh=True)
    assert first.returncode == 0, first.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    (folder,) = (tmp_path / "runs").iterdir()
    assert {"config.yaml", "events.jsonl", "summary.json", "provenance.json", "checkpoints", "DONE"} <= {
        p.name for p in folder.iterdir()
    }
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events] == [10, 20]
    metrics = json.loads((folder / "summary.json").read_text())["metrics"]
    assert {"train/loss", "val/acc1", "val/acc5", "val/loss", "lr"} <= set(metrics)
    assert {"throughput/samples_per_sec", "memory/peak_gb", "time/train_s", "time/eval_s"} <= set(metrics)

    evaluated = paribus("eval", str(folder), cwd=tmp_path, fresh=True)
    assert f"val/acc1         {metrics['val/acc1']:.6f}" in evaluated.stdout
    by_file = paribus("eval", str(folder / "checkpoints" / "step_00000020.pt"), cwd=tmp_path)
    assert by_file.stdout == evaluated.stdout
    assert folder.name in paribus("list", "runs", cwd=tmp_path).stdout
    again = paribus(*command, cwd=tmp_path)
    assert again.returncode == 0
    assert "is done already" in again.stdout


def test_a_sweep_runs_every_job_and_tells_the_gravest_code(paribus: Run, tmp_path: Path) -> None:
    done = paribus(
        "train",
        "-m",
        "experiment=smoke",
        "steps=10ba",
        "optimizer.lr=0.01,-1",
        "technique=baseline,cutmix",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "4 jobs: 2 ended with 0, 2 ended with 2" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_own_configs_and_own_packages(paribus: Run, tmp_path: Path) -> None:
    (tmp_path / "lab" / "experiment").mkdir(parents=True)
    (tmp_path / "lab" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [smoke]\nname: mine\nsteps: 5ba\npackages: [my_lab]\n"
        "objective: {_target_: my_lab.Flat}\n"
    )
    (tmp_path / "my_lab.py").write_text(
        "import torch\nfrom paribus.core.build import schema\n"
        "@schema\nclass Flat:\n    smoothing: float = 0.0\n"
        "    def __call__(self, model, batch, at):\n        return model(batch.inputs).square().mean(), {}\n"
    )
    command = ("train", "--config-dir", "lab", "experiment=mine")
    done = paribus(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    refused = paribus(*command, "packages=[]", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert refused.returncode == 2
    assert "my_lab.Flat" in refused.stderr


def test_a_crash_in_a_sweep_is_shown_counted_and_marked(paribus: Run, tmp_path: Path) -> None:
    (tmp_path / "my_lab.py").write_text(
        "from paribus.core.build import schema\n@schema\nclass Broken:\n    fail: bool = False\n"
        "    def __call__(self, model, batch, at):\n"
        "        if self.fail: raise RuntimeError('out of luck')\n"
        "        return model(batch.inputs).square().mean(), {}\n"
    )
    done = paribus(
        *("train", "-m", "experiment=smoke", "steps=3ba", "packages=[my_lab]", "+objective.fail=false,true"),
        *("~objective.smoothing", "objective._target_=my_lab.Broken"),
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 1, done.stderr
    assert "2 jobs: 1 ended with 0, 1 ended with 1" in done.stdout
    assert "RuntimeError: out of luck" in done.stderr
    states = sorted(p.name for run in (tmp_path / "runs").iterdir() for p in run.glob("[A-Z]*"))
    assert states == ["DONE", "FAILED"]


def test_eval_takes_no_code_from_a_run_folder(paribus: Run, tmp_path: Path) -> None:
    assert paribus("train", "experiment=smoke", "steps=3ba", cwd=tmp_path).returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    (tmp_path / "evil.py").write_text("print('EVIL')\n")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for change, told in (
        ({**config, "packages": ["evil"], "model": {"_target_": "evil.Net"}}, "only classes of paribus"),
        ([], "is not a mapping"),
    ):
        (folder / "config.yaml").write_text(yaml.safe_dump(change))
        refused = paribus("eval", str(folder), cwd=tmp_path)
        assert refused.returncode == 2
        assert told in refused.stderr
        assert "EVIL" not in refused.stdout
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    last = str(folder / "checkpoints" / "last")
    assert paribus("eval", last, "runtime.threads=1", cwd=tmp_path).returncode == 0
    assert "seed: cannot be overridden here" in paribus("eval", last, "seed=1", cwd=tmp_path).stderr


def test_a_tracker_that_fails_cannot_stop_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    from paribus.tracking.console import ConsoleTracker

    def broken(self, step, values):
        raise RuntimeError("no ink")

    monkeypatch.setattr(ConsoleTracker, "log", broken)
    monkeypatch.chdir(tmp_path)
    assert dispatch(["train", "experiment=smoke", "steps=20ba"]) == 0
    assert capfd.readouterr().err.count("ConsoleTracker failed and is dropped") == 1
