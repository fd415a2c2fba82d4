"""Sets of images trained from the command line: real ones, a bad file, a kill in the middle of an epoch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from helpers.image_trees import tree
from helpers.trainings import result_in, stopping_after, trained

Run = Callable[..., CompletedProcess[str]]
SMALL = ("experiment=smoke", "data=folder", "data.form=folder", "data.size=16", "batch_size=8", "runtime.threads=1")
ROOT = Path(__file__).parents[2]


def small(root: Path) -> tuple[str, ...]:
    return (*SMALL, f"data.root={root}", "every.log=3ba", "every.evaluate=10ba", "every.checkpoint=5ba", "steps=20ba")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training images of three sizes, so that 3 steps of 8 are an epoch."""
    return tree(tmp_path_factory.mktemp("pictures"), sizes=((40, 52), (61, 37), (24, 90)), ending=".jpg")


def test_a_file_that_does_not_decode_is_one_line(paribus: Run, tmp_path: Path) -> None:
    bad = tree(tmp_path / "set", ending=".jpg") / "train" / "class_1" / "004.jpg"
    bad.write_bytes(bad.read_bytes()[:300])
    command = ("train", *small(tmp_path / "set"), "steps=4ba", "tracker=events")
    done = paribus(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "train/class_1/004.jpg: " in done.stderr
    assert "data.on_error=skip" in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "FAILED").exists()
    done = paribus(*command, "data.on_error=skip", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr  # of training, and of the training images that are evaluated
    assert "replaced by train/class_1/005.jpg in training, left out where training images are evaluated" in done.stderr
    assert "1 image did not decode (named in summary.json)" in done.stdout
    (marker,) = (tmp_path / "runs").glob("*/DONE")
    summary = json.loads((marker.parent / "summary.json").read_text())
    assert summary["undecodable"] == {"count": 1, "files": ["train/class_1/004.jpg"]}


def test_resuming_in_the_middle_of_an_epoch_changes_nothing(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", *small(pictures), techniques=("cutmix",))
    with monkeypatch.context() as patched:
        stopping_after(patched, 10)
        stopped = trained(tmp_path / "parts", *small(pictures), "data.workers=0", techniques=("cutmix",))
    assert stopped.code == 75
    assert trained(tmp_path / "parts", *small(pictures), "data.workers=3", techniques=("cutmix",)).same_as(whole)


def test_a_run_is_refused_on_other_images_than_it_was_begun_with(paribus: Run, tmp_path: Path) -> None:
    """Which images lie under a root is no part of a recipe, so both runs have one folder."""
    roots = [
        tree(tmp_path / name, sizes=((40, 52), size), ending=".jpg")
        for name, size in (("a", (61, 37)), ("b", (62, 37)))
    ]
    commands = [("train", *small(root), "tracker=events") for root in roots]
    assert paribus(*commands[0], cwd=tmp_path).returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    for _ in range(2):  # done, then stopped after its checkpoint at step 10
        again = paribus(*commands[1], cwd=tmp_path)
        assert again.returncode == 2, again.stdout
        assert "was trained on other images" in again.stderr
        assert again.stderr.count("\n") == 1
        (folder / "DONE").unlink(missing_ok=True)
        for last in sorted((folder / "checkpoints").glob("step_*.pt"))[1:]:
            last.unlink()
    assert paribus(*commands[0], cwd=tmp_path).returncode == 0


def start(command: tuple[str, ...], folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "paribus.cli", "train", *command, "tracker=events"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def wait_for(process: "subprocess.Popen[str]", folder: Path, lines: int) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        record = next((folder / "runs").glob("*/events.jsonl"), None) if (folder / "runs").is_dir() else None
        if record is not None and record.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.005)


def test_kills_and_ctrl_c_with_workers_lose_and_leave_nothing(pictures: Path, tmp_path: Path) -> None:
    command = (*small(pictures), "technique=cutmix", "steps=150ba")
    whole = trained(tmp_path / "whole", *small(pictures), "steps=150ba", techniques=("cutmix",))
    killed = start(command, tmp_path)
    wait_for(killed, tmp_path, 8)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    asked = start(command, tmp_path)  # at once: no worker of the killed run may hold its folder on
    wait_for(asked, tmp_path, 30)
    os.killpg(asked.pid, signal.SIGINT)  # Ctrl-C on a terminal reaches the workers as well
    _, err = asked.communicate(timeout=60)
    assert asked.returncode == 75, err
    assert err == "paribus: SIGINT; stopping after this step with a checkpoint\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(asked.pid, 0)
    last = start(command, tmp_path)
    _, err = last.communicate(timeout=60)
    assert (last.returncode, err) == (0, "")
    (run,) = (tmp_path / "runs").iterdir()
    assert result_in(run).same_as(whole)


def test_a_dataset_class_of_ones_own_trains_from_the_command_line(paribus: Run, tmp_path: Path) -> None:
    own = ROOT / "examples" / "own_dataset"
    path = os.pathsep.join([str(own), os.environ.get("PYTHONPATH", "")])
    command = ("train", "--config-dir", str(own), "data=shapes", "steps=6ba", "batch_size=32", "tracker=events")
    done = paribus(*command, "packages=[shapes]", "runtime.threads=1", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["sizes"] == {"train": 400, "val": 100}
    again = paribus("eval", str(run), "packages=[shapes]", cwd=tmp_path, PYTHONPATH=path)
    assert again.returncode == 0, again.stderr
    refused = paribus("eval", str(run), cwd=tmp_path, PYTHONPATH=path)
    assert refused.returncode == 2
    assert "data.dataset._class_: found shapes.Shapes; only classes of your own packages" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("form", ["packed", "folder"])
@pytest.mark.parametrize("name", ["imagenette160-sub", "tiny-imagenet-20"])
def test_real_sets_train_with_cutmix(name: str, form: str, image_sets: Path, paribus: Run, tmp_path: Path) -> None:
    data, size = ("imagenette", 160) if name == "imagenette160-sub" else ("folder", 64)
    pack = tmp_path / "pack"
    if form == "packed":
        prepare = ("data", "prepare", data, "--root", str(image_sets / name), "--size", str(size), "--out", str(pack))
        done = paribus(*prepare, "--allow-missing")
        assert done.returncode == 0, done.stderr
    overrides = [f"data={data}", f"data.root={image_sets / name}", f"data.form={form}", f"data.pack_size={size}"]
    overrides += [f"data.pack={pack}"] if form == "packed" else []
    command = ("train", "experiment=quickstart", *overrides, "data.size=32", "technique=cutmix", "steps=8ba")
    done = paribus(*command, "batch_size=64", "every.evaluate=8ba", "tracker=events", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    assert metrics["val/acc1"] > 0
    assert metrics["train/loss"] < 4
