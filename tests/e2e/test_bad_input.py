"""Every mistake we could think of, made: one line on where, what was found and what to do; nothing left behind."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from paribus.cli.main import dispatch

Run = Callable[..., CompletedProcess[str]]
SMOKE = ("train", "experiment=smoke", "runtime.threads=1", "tracker=events")

MISTAKES = {  # overrides of experiment=smoke -> what the one line must say
    "seed=abc": "seed: found 'abc'; should be a valid integer",
    "seed=-1": "seed: found -1; should be greater than or equal to 0",
    "optimizer.lrr=1": "optimizer.lrr: no such key (did you mean optimizer.lr",
    "+optimizer.lrr=1": "optimizer.lrr: no such key (did you mean lr?)",
    "optimizer.lr=fast": "optimizer.lr: found 'fast'; should be a valid number",
    "optimizer.lr=nan": "optimizer.lr: found nan; should be a finite number",
    "technique=cutmx": "technique=cutmx: there is no such technique (did you mean cutmix?)",
    "experiment=smok": "experiment=smok: there is no such experiment (did you mean smoke",
    "technique=cutmix transforms.cutmix.alpha=-1": "transforms.cutmix.alpha: found -1; should be greater than 0",
    "technique=cutmix +transforms.cutmix.alhpa=2": "transforms.cutmix.alhpa: no such key (did you mean alpha?)",
    "technique=cutmix transforms=null": "technique=cutmix does not fit this recipe",
    "technique=cutmix ~transforms.cutmix": "technique=cutmix does not fit this recipe",
    "model._target_=os.system": "model._target_: found os.system; only classes of paribus",
    "model._target_=paribus.nowhere.Net": "model._target_: paribus.nowhere.Net cannot be imported",
    "model=cifar_resnet model.depth=21": "model.depth: found 21; depth must be 6n+2",
    "model=timm model.name=resnt18": "timm has no model 'resnt18' (did you mean resnet18",
    "+transforms.net={_target_:paribus.models.convnet.ConvNet}": "transforms: found ConvNet; should be a Transform",
    "data=cifar10 data.root=nowhere": "data.root: cifar10 is not there",
    "data.train_size=257": "data.train_size: found 257; synthetic has 256 samples",
    "batch_size=257": "batch_size: found 257; there are only 256 training images",
    "update.accumulate=3": "update.accumulate: found 3; 32 images a process do not divide",
    "evaluators.accuracy.splits=[minival]": "evaluators.accuracy.splits: found minival; the data has val",
    "steps=0ep": "steps: found '0ep'; should be at least 1ep or 1ba",
    "steps=40": "steps: found 40; should be a number of epochs or of steps, such as 90ep or 500ba",
    "data.minival=256": "data.minival: found 256; there are 256 training images to share",
    "every.log=often": "every.log: found 'often'; should be a number of epochs or of steps",
    "runtime.device=cuda:99": "runtime.device: found cuda:99",
    "name=a/b": "name: found 'a/b'; should be part of a file name",
    "colour=red": "colour: no such key",
    "+colour=red": "colour: no such key",
    "lr=0.1": "lr: no such key (did you mean optimizer.lr?); paribus train --help",
    "+lr=0.1": "lr: no such key (did you mean optimizer.lr?); paribus train --help",
    "epochs=3": "epochs: no such key (did you mean steps=3ep?); paribus train --help",
    "seed=???": "seed: missing value (???); give seed=VALUE",
    "model=???": "model: missing value (???); give model=NAME, one of cifar_resnet",
    "model=rexnet batch_size=1": "batch_size=1, update.accumulate=1: BatchNorm gets one value per channel",
    "model=rexnet batch_size=4 update.accumulate=4": "batch_size=4, update.accumulate=4: BatchNorm gets one value",
    "seed": "seed",
    "seed=[": "'['",
    "seed=${nowhere}": "seed: Interpolation key 'nowhere' not found",
    "runtime.threads=100000": "runtime.threads: found 100000; should be less than or equal to 1024",
    "packages=[nopackage]": "packages: found nopackage; no Python package of that name can be imported",
    "technique=cutmix technique=adamp": "technique: chosen twice, as cutmix and as adamp; only the last would count; "
    "technique=[cutmix,adamp] takes all of them",
    "technique=[cutmix,cutmix]": "technique: found [cutmix,cutmix]; cutmix is listed twice",
    "technique=cutmix +technique=adamp": "technique: chosen twice",
    "-m technique=cutmix,mixup technique=adamp": "technique: chosen twice, as cutmix,mixup and as adamp",
    "model=convnet model=convnet": "model: chosen twice, as convnet and as convnet",
    "tracker=[events,foo]": "tracker=foo: there is no such tracker; there are console, csv, events, tensorboard, wandb",
    "optimizer=[sgd,foo]": "optimizer=foo: there is no such optimizer; there are adamw, sgd",
    "evaluators.accuracy.splits=[]": "evaluators.accuracy.splits: found (); should name a split, such as val",
    "evaluators.accuracy.splits=[val,val]": "val is listed twice",
    "batch_size=1 model.norm=batch data.size=1": "BatchNorm gets one value per channel",
    "batch_size=4 update.accumulate=4 model.norm=batch data.size=2": "update.accumulate=4: BatchNorm gets one value",
    "name=ü": "goes in two pairs of quotes",
    "+experiment.lr=1": "experiment",
    "--colour": "unrecognized arguments: --colour; an override is key=value",
    "--lr 0.1": "unrecognized arguments: --lr 0.1; an override is key=value (did you mean optimizer.lr?)",
    "--epochs=3": "unrecognized arguments: --epochs=3; an override is key=value (did you mean steps=3ep?)",
    "--technique cutmix": "an override is key=value (did you mean technique=cutmix?)",
    "cutmix": "missing EQUAL at '<EOF>'; an override is key=value (did you mean technique=cutmix?)",
    "+=": "cannot be composed",
    "data=digits data.sizee=8": "data.sizee: no such key (did you mean data.",
    "data.n=9000000000000000000": "data: cannot be made from this config",
    "model.widths=[9000000000000000000]": "model, optimizer or transforms: cannot be made from this config",
    "paths.runs=/proc/nowhere": "paths.runs: /proc/nowhere/smoke-baseline-s0-",
}


@pytest.mark.parametrize("overrides", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    overrides: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARIBUS_DATA", raising=False)
    base = [] if "experiment=" in overrides else ["experiment=smoke"]
    code = dispatch(["train", *base, *overrides.split(" ")])
    out, err = capfd.readouterr()
    assert code == 2
    assert MISTAKES[overrides] in err
    assert err.startswith("paribus: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of a given size; asked for again, the same one with another size."""
    folder = tmp_path / "disk"

    def sized(size: str) -> Path:
        again = folder.exists()
        folder.mkdir(exist_ok=True)
        options = f"remount,size={size}" if again else f"size={size}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting a small tmpfs needs rights that this process lacks: {done.stderr.decode().strip()}")
        return folder

    yield sized
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


def test_a_disk_that_is_full_at_the_start(small_disk: Callable[[str], Path], paribus: Run) -> None:
    disk = small_disk("8k")
    done = paribus(*SMOKE, "steps=5ba", f"paths.runs={disk}/a/runs")
    assert done.returncode == 2
    assert "No space left on device; make room or choose another with paths.runs=DIR" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(disk.iterdir()) == []


def test_a_disk_that_fills_while_training_loses_nothing(small_disk: Callable[[str], Path], paribus: Run) -> None:
    disk = small_disk("200k")
    command = (*SMOKE, "steps=60ba", "every.log=5ba", "every.checkpoint=5ba", f"paths.runs={disk}")
    done = paribus(*command)
    assert done.returncode == 1
    assert (
        "No space left on device; make room and run the same command again; the last good checkpoint is at step"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    (folder,) = disk.iterdir()
    assert not list(folder.rglob("*.tmp-*"))
    small_disk("4m")
    assert paribus(*command).returncode == 0
    undisturbed = paribus(*command[:-1], f"paths.runs={disk}/other")
    assert undisturbed.returncode == 0, undisturbed.stderr
    mine, other = (
        json.loads((p / "summary.json").read_text())["metrics"] for p in (folder, *(disk / "other").iterdir())
    )
    assert mine["val/loss"] == other["val/loss"]


def test_a_file_that_may_not_grow_further(paribus: Run, tmp_path: Path) -> None:
    """As a full disk, for machines where none can be mounted: no file may be larger than 40 kB, and a checkpoint is."""
    done = subprocess.run(
        [sys.executable, "-m", "paribus.cli", *SMOKE, "steps=10ba"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )
    assert done.returncode == 1
    assert "cannot be written any more: File too large" in done.stderr
    assert "there is no checkpoint yet" in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "FAILED").exists()
    assert list((folder / "checkpoints").iterdir()) == []


def test_a_checkpoint_of_another_recipe(paribus: Run, tmp_path: Path) -> None:
    for seed in (0, 1):
        assert paribus(*SMOKE, "steps=5ba", f"seed={seed}", cwd=tmp_path).returncode == 0
    first, second = sorted((tmp_path / "runs").iterdir())
    shutil.rmtree(second / "checkpoints")
    shutil.copytree(first / "checkpoints", second / "checkpoints")
    (second / "DONE").unlink()
    before = {p: p.read_bytes() for p in second.rglob("*") if p.is_file() and p.name != "lock"}
    refused = paribus(*SMOKE, "steps=5ba", "seed=1", cwd=tmp_path)
    assert refused.returncode == 2
    assert "holds a checkpoint of recipe" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert before == {p: p.read_bytes() for p in second.rglob("*") if p.is_file() and p.name != "lock"}
    for command in ("eval", "export"):
        other = paribus(command, str(second), cwd=tmp_path)
        assert other.returncode == 2
        assert "the checkpoint is of recipe" in other.stderr


def test_a_record_that_does_not_reach_the_checkpoint_is_refused(paribus: Run, tmp_path: Path) -> None:
    command = (*SMOKE, "steps=20ba", "every.log=2ba", "every.checkpoint=10ba")
    assert paribus(*command, cwd=tmp_path).returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    (folder / "DONE").unlink()
    whole = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    for damaged in (whole[:3] + whole[6:], []):
        (folder / "events.jsonl").write_text("".join(damaged))
        refused = paribus(*command, cwd=tmp_path)
        assert refused.returncode == 2
        assert f"holds {len(damaged)} of the {len(whole)} lines up to the checkpoint at step 20" in refused.stderr
    (folder / "events.jsonl").write_text("".join(whole))
    assert paribus(*command, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("outlet", [">/dev/full", ">&-", "| head -1"])
def test_a_training_does_not_end_because_nobody_reads_it(tmp_path: Path, outlet: str) -> None:
    overrides = f"{' '.join(SMOKE[:3])} tracker=[events,console] steps=6ba every.log=1ba"
    command = f"{sys.executable} -m paribus.cli {overrides} {outlet}"
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == (outlet == ">/dev/full")
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "DONE").exists()


def test_a_path_with_odd_letters(paribus: Run, tmp_path: Path) -> None:
    done = paribus(*SMOKE, "steps=2ba", "paths.runs=my rüns (x)", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["my rüns (x)"]


def test_a_corrupt_data_file(cifar10_root: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(Path(cifar10_root) / "cifar-10-batches-py", tmp_path / "data" / "cifar-10-batches-py")
    path = tmp_path / "data" / "cifar-10-batches-py" / "data_batch_3"
    content = bytearray(path.read_bytes())
    content[1000] ^= 4
    path.write_bytes(content)
    code = dispatch([*SMOKE, "data=cifar10", f"data.root={tmp_path}/data", f"paths.runs={tmp_path}/runs"])
    err = capfd.readouterr().err
    assert code == 2
    assert f"{path} is damaged or not the official file" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_loss_that_turns_nan_names_the_step_and_the_last_good_checkpoint(paribus: Run, tmp_path: Path) -> None:
    (tmp_path / "my_lab.py").write_text(
        "from paribus.core.build import schema\n@schema\nclass Explodes:\n"
        "    def __call__(self, model, batch, at):\n"
        "        return model(batch.inputs).square().mean() * (float('nan') if at.step >= 12 else 1.0), {}\n"
    )
    done = paribus(
        *(*SMOKE, "steps=30ba", "every.log=4ba", "every.checkpoint=5ba", "packages=[my_lab]"),
        *("objective={_target_:my_lab.Explodes}", "~objective.smoothing"),
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 1, done.stderr
    assert "the loss is not finite between steps 13 and 15" in done.stderr
    assert "the last good checkpoint is at step 10" in done.stderr
    assert done.stderr.count("\n") == 1
    (folder,) = (tmp_path / "runs").iterdir()
    assert "not finite" in (folder / "FAILED").read_text()


def interrupted(folder: Path, times: int) -> tuple[int, str]:
    """Train, and press Ctrl-C this often once there is a first line of the record."""
    process = subprocess.Popen(
        [sys.executable, "-m", "paribus.cli", *SMOKE, "steps=200000ba", "every.log=20ba", "every.evaluate=200000ba"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(folder.glob("runs/*/events.jsonl")):
        time.sleep(0.01)
    time.sleep(0.3)
    if times == 2:  # both before the step at hand can end
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, err


def test_ctrl_c_once_checkpoints_and_leaves(tmp_path: Path) -> None:
    code, err = interrupted(tmp_path, 1)
    assert code == 75
    assert "SIGINT; stopping after this step with a checkpoint" in err
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "PREEMPTED").exists()
    assert list((folder / "checkpoints").glob("step_*.pt"))


def test_a_second_ctrl_c_leaves_at_once(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from paribus.engine.stop import StopRequest

    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    stop = StopRequest()
    stop.install_handlers()
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.is_requested
    assert codes == []
    os.kill(os.getpid(), signal.SIGINT)
    assert codes == [130]
    assert "exiting at once; the last checkpoint is kept" in capfd.readouterr().err


def test_a_traceback_is_kept_and_shown_on_request(paribus: Run, tmp_path: Path) -> None:
    (tmp_path / "my_lab.py").write_text(
        "from paribus.core.build import schema\n@schema\nclass Broken:\n"
        "    def __call__(self, model, batch, at):\n        raise RuntimeError('out of luck')\n"
    )
    command = (*SMOKE, "packages=[my_lab]", "objective={_target_:my_lab.Broken}", "~objective.smoothing")
    done = paribus(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "RuntimeError: out of luck" in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert "Traceback" in (folder / "FAILED").read_text()
    shown = paribus(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path), PARIBUS_DEBUG="1")
    assert "Traceback" in shown.stderr


def test_a_loss_that_is_not_finite_fails_the_run(paribus: Run, tmp_path: Path) -> None:
    done = paribus("train", "experiment=smoke", "optimizer=sgd", "optimizer.lr=1e30", "every.log=2ba", cwd=tmp_path)
    assert done.returncode == 1
    assert "is not finite" in done.stderr
    assert "Traceback" not in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "FAILED").exists()
    assert not list((folder / "checkpoints").iterdir())


def test_a_broken_yaml_of_the_users_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    (tmp_path / "lab" / "experiment").mkdir(parents=True)
    (tmp_path / "lab" / "experiment" / "mine.yaml").write_text("a: [1\nb: {")
    monkeypatch.chdir(tmp_path)
    assert dispatch(["train", "--config-dir", "lab", "experiment=mine"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "mine.yaml" in err
