"""W&B as a mirror: what it holds after any accident is the record, and training does not notice it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from helpers.trainings import trained
from helpers.wandb_service import KEY, Service, broken, service
from paribus.tracking.events import read_events
from paribus.tracking.wandb import FOLLOWER, NullTracker, WandB

SMOKE = ["train", "experiment=smoke", "technique=cutmix", "runtime.threads=1", "tracker=wandb"]
LONG = ["tracker.wandb.after=0", "steps=1500ba", "every.log=20ba", "every.evaluate=300ba", "every.checkpoint=60ba"]


def environment(**more: str) -> dict[str, str]:
    """Of a user without an account."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return {**clean, "OMP_NUM_THREADS": "1", "NETRC": os.devnull, **more}


def paribus(folder: Path, *arguments: str, **variables: str) -> CompletedProcess[str]:
    command = [sys.executable, "-m", "paribus.cli", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "paribus.cli", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=environment(**variables), **quiet)


def the_run(folder: Path) -> Path | None:
    return next((folder / "runs").glob("*"), None) if (folder / "runs").is_dir() else None


def followers(folder: Path) -> list[int]:
    """The processes that tell W&B of a run under a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes()
            if FOLLOWER.encode() in words and f"{folder}/runs/".encode() in words:
                found.append(int(process.name))
    return found


def settled(folder: Path) -> Path:
    """The one run under a folder, once its follower is gone."""
    deadline = time.monotonic() + 120
    while followers(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    run = the_run(folder)
    assert run is not None
    return run


def told(run: Path) -> dict[str, Any]:
    return json.loads((run / "wandb" / "status.json").read_text())


def record(run: Path) -> tuple[dict[str, Any], list[int]]:
    """The summary of the one local record, by W&B's own reader, and the steps of its history in their order."""
    (folder,) = (run / "wandb").glob("*run-*")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    summary = subprocess.run([*inspect, "--summary", folder], capture_output=True, text=True, check=True).stdout
    lines = subprocess.run([*inspect, folder], capture_output=True, text=True, check=True).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    return json.loads(summary), [e["history"]["item"]["step"] for e in events if e["type"] == "history"]


def recorded(run: Path) -> list[int]:
    return [event["step"] for event in read_events(run / "events.jsonl")]


def follows(folder: Path) -> bool:
    """Whether a follower has begun, and is not one whose last word is still there."""
    run = the_run(folder)
    return run is not None and (run / "wandb/status.json").exists() and told(run)["process"] in followers(folder)


def final(run: Path) -> dict[str, float]:
    return json.loads((run / "summary.json").read_text())["metrics"]


def test_the_local_record_holds_config_metrics_and_state(tmp_path: Path) -> None:
    done = paribus(tmp_path, *SMOKE, "tracker.wandb.tags=[mine]", "tracker.wandb.images=4")
    assert done.returncode == 0
    assert "wandb:" not in done.stdout + done.stderr, "no banner"
    run = settled(tmp_path)
    summary, steps = record(run)
    assert steps == [0, *recorded(run)], "step 0 is the picture"
    assert (summary["state"], summary["exit_code"], summary["project"]) == ("finished", 0, "paribus")
    assert (summary["name"], summary["tags"]) == ("smoke-cutmix-s0", ["cutmix", "mine"])
    assert {key: summary["summary"][key] for key in final(run)} == pytest.approx(final(run))
    assert summary["summary"]["state"] == "finished"
    assert summary["summary"]["inputs"]["_type"] == "image-file"
    assert summary["config"]["optimizer"]["_target_"] == "paribus.methods.optimizers.AdamW"
    assert summary["config"]["recipe"] == run.name[-12:]
    assert summary["config"]["provenance"][0]["packages"]["torch"] == torch.__version__.partition("+")[0]

    first = told(run)["record"]
    synced = paribus(tmp_path, "wandb", "sync", "runs", "--offline")
    assert synced.returncode == 0, synced.stderr
    again, same_steps = record(run)
    assert again["file"] != summary["file"]
    assert not Path(first).exists()
    assert same_steps == steps
    assert {**again["summary"], "_runtime": 0, "_timestamp": 0} == {
        **summary["summary"],
        "_runtime": 0,
        "_timestamp": 0,
    }


def test_what_evaluators_draw_is_sent_with_the_values_of_its_step(tmp_path: Path) -> None:
    grids = ["train", "experiment=smoke_images", "evaluators=[samples]", "steps=4ba", "every.evaluate=2ba"]
    done = paribus(tmp_path, *grids, "every.log=1ba", "runtime.threads=1", "tracker=wandb")
    assert done.returncode == 0, done.stderr
    run = settled(tmp_path)
    summary, steps = record(run)
    assert steps == recorded(run) == [1, 2, 3, 4]
    assert summary["summary"]["samples"]["_type"] == "image-file"
    (folder,) = (run / "wandb").glob("*run-*")
    sent = {path.read_bytes() for path in folder.glob("files/media/images/samples*.png")}
    assert sent == {path.read_bytes() for path in (run / "samples").glob("step_*.png")}
    assert len(sent) == 2


def test_drawing_inputs_leaves_the_training_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WandB, "effective_mode", "offline")
    monkeypatch.setattr(WandB, "__call__", lambda self, folder, start, total: NullTracker())
    results = []
    for images in (16, 0):
        small = ("experiment=smoke", "steps=20ba", "tracker=[events,wandb]", f"tracker.wandb.images={images}")
        results.append(trained(tmp_path / str(images), *small, techniques=("cutmix",)))
        assert (results[-1].folder / "inputs.png").exists() is bool(images)
    assert results[0].same_as(results[1])


def accident(folder: Path, victim: str, dice: random.Random, **variables: str) -> None:
    """Go on with the run, and after some more lines of its record kill training, its follower, or both."""
    run = the_run(folder)
    before = len(recorded(run)) if run else 0
    process = start(folder, *SMOKE, *LONG, **variables)
    wanted, deadline = before + dice.randint(4, 10), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        run = the_run(folder)
        if run is not None and follows(folder) and len(recorded(run)) >= wanted:
            break
        time.sleep(0.005)
    assert process.poll() is None, "killed before it could end"
    assert run is not None
    if victim in ("training", "both"):
        process.kill()
    if victim in ("follower", "both"):
        os.kill(told(run)["process"], signal.SIGKILL)
    if victim == "follower":
        time.sleep(0.2)
        process.kill()
    process.wait()


@pytest.mark.parametrize(
    "victims",
    [
        ("training", "both"),
        pytest.param(("training", "both", "follower", "both", "training"), marks=pytest.mark.slow),
    ],
    ids=["two", "five"],
)
def test_after_kills_the_record_holds_each_step_once(victims: tuple[str, ...], tmp_path: Path) -> None:
    dice = random.Random(20261125)
    for victim in victims:
        accident(tmp_path, victim, dice)
        if victim == "training":  # its follower notices, and ends the record
            run = settled(tmp_path)
            summary, steps = record(run)
            assert steps == recorded(run)
            assert (summary["state"], summary["summary"]["state"], summary["exit_code"]) == ("failed", "killed", 255)
    assert paribus(tmp_path, *SMOKE, *LONG).returncode == 0
    run = settled(tmp_path)
    summary, steps = record(run)
    assert steps == recorded(run) == list(range(20, 1501, 20))
    assert (summary["state"], summary["summary"]["state"]) == ("finished", "finished")


@pytest.mark.slow
def test_a_killed_follower_is_started_again_at_the_end(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "paribus.cli", *SMOKE, *LONG],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not follows(tmp_path):
        time.sleep(0.01)
    run = the_run(tmp_path)
    assert run is not None
    os.kill(told(run)["process"], signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 0
    assert "was killed (signal 9); another one starts over" in errors
    summary, steps = record(settled(tmp_path))
    assert steps == recorded(run)
    assert summary["state"] == "finished"


@pytest.mark.parametrize("how", ["hangs", *(pytest.param(h, marks=pytest.mark.slow) for h in ("fails", "drops"))])
def test_a_broken_service_costs_a_warning_and_leaves_a_local_record(how: str, tmp_path: Path) -> None:
    with broken(how) as address:
        variables = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": address}
        done = paribus(tmp_path, *SMOKE, "tracker.wandb.sync_timeout=2", **variables)
        assert done.returncode == 0
        (warning,) = done.stderr.splitlines()
        assert warning.startswith("warning: ")
        assert "W&B" in warning
        assert "paribus wandb sync runs/" in warning
        run = settled(tmp_path)
        assert "the service cannot be reached" in told(run)["why"]
        summary, steps = record(run)
        assert (steps, summary["state"]) == (recorded(run), "finished")
        synced = paribus(tmp_path, "wandb", "sync", str(run), "--offline", **variables)
        assert synced.returncode == 0


def history(w_and_b: Service) -> list[int]:
    return [line["step"] for line in w_and_b.history]


def test_online_a_killed_run_goes_on_without_a_step_twice(tmp_path: Path) -> None:
    with service() as w_and_b:
        variables = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": w_and_b.url, "WANDB_PROJECT": "mine"}
        accident(tmp_path, "training", random.Random(3), **variables)
        run = settled(tmp_path)
        assert w_and_b.exit_code == 255
        assert history(w_and_b) == recorded(run)
        process = start(tmp_path, *SMOKE, *LONG, **variables)
        while process.poll() is None and len(recorded(run)) < 40:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 75
        settled(tmp_path)
        assert w_and_b.preempting
        assert w_and_b.exit_code == 75
        assert paribus(tmp_path, *SMOKE, *LONG, **variables).returncode == 0
        settled(tmp_path)
        assert history(w_and_b) == recorded(run) == list(range(20, 1501, 20))
        assert w_and_b.exit_code == 0
        assert (w_and_b.run["project"], w_and_b.run["groupName"], w_and_b.run["jobType"]) == ("mine", "smoke", "cutmix")
        synced = paribus(tmp_path, "wandb", "sync", "runs", **variables)
        assert synced.returncode == 0
        assert f"W&B has it: {w_and_b.url}/someone/mine/runs/" in synced.stdout
        assert history(w_and_b) == recorded(run)


@pytest.fixture
def trap(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """A wandb that cannot be imported and leaves a mark when that is tried."""
    mark = tmp_path / "tried"
    package = tmp_path / "trap"
    package.mkdir()
    (package / "wandb.py").write_text(f"open({str(mark)!r}, 'a').write('wandb')\nraise ImportError('no such luck')\n")
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path}, mark


def test_without_the_tracker_nobody_imports_wandb(tmp_path: Path, trap: tuple[dict[str, str], Path]) -> None:
    variables, mark = trap
    for seed, more, mode in ((0, ["tracker=events"], {}), (1, ["tracker=wandb"], {"WANDB_MODE": "disabled"})):
        arguments = ["train", "experiment=smoke", "steps=2ba", "runtime.threads=1", f"seed={seed}"]
        done = paribus(tmp_path, *arguments, *more, **variables, **mode)
        assert (done.returncode, done.stderr) == (0, "")
    assert not mark.exists()
    assert len(list((tmp_path / "runs").glob("*"))) == 2
    assert not list((tmp_path / "runs").glob("*/wandb"))


def test_who_is_not_logged_in_and_did_not_ask_pays_nothing_for_it(
    tmp_path: Path, trap: tuple[dict[str, str], Path]
) -> None:
    variables, mark = trap
    clean = {key: value for key, value in {**os.environ, **variables}.items() if not key.startswith("WANDB_")}
    words = ["train", "experiment=smoke", "steps=2ba", "runtime.threads=1"]
    done = subprocess.run(
        [sys.executable, "-m", "paribus.cli", *words],
        cwd=tmp_path,
        env={**clean, "HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "W&B           off (not logged in; tracker=[console,wandb] records offline)" in done.stdout
    assert not mark.exists()
    assert not list((tmp_path / "runs").glob("*/wandb"))


def test_a_wandb_that_cannot_be_imported_costs_a_warning(tmp_path: Path, trap: tuple[dict[str, str], Path]) -> None:
    variables, mark = trap
    done = paribus(tmp_path, *SMOKE, *LONG, **variables)
    assert done.returncode == 0
    (warning,) = done.stderr.splitlines()
    assert "wandb cannot be imported (no such luck); pip install wandb" in warning
    assert mark.read_text() == "wandb", "once, in the follower"


def test_the_follower_does_without_torch(tmp_path: Path) -> None:
    code = "import sys, paribus.tracking.wandb_follower, paribus.tracking.wandb_session, paribus.cli.wandb\n"
    code += "print([m for m in ('torch', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sync_leaves_a_run_alone_that_is_being_trained(tmp_path: Path) -> None:
    process = start(tmp_path, *SMOKE, *LONG)
    while process.poll() is None and not follows(tmp_path):
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    done = paribus(tmp_path, "wandb", "sync", "runs")
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
    assert done.returncode == 0
    assert "skipped, it is being trained by process" in done.stdout
    settled(tmp_path)


@pytest.mark.parametrize(
    "arguments", [["sync"], ["sync", "a", "b"], ["sync", "a", "--now"], ["snyc", "a"], ["sync", "a"]]
)
def test_a_command_that_is_not_understood_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    done = paribus(tmp_path, "wandb", *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
