"""paribus.train in a process that goes on: what it computes, what it refuses, and that it leaves nothing behind."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import paribus
from helpers.trainings import result_in, trained
from paribus.core.errors import ConfigError
from paribus.core.runfolder import read_segments
from paribus.recipe.configs import find_config_folder

SMOKE = ["experiment=smoke", "steps=12ba", "every.log=6ba", "tracker=events", "runtime.threads=1", "runtime.device=cpu"]


def global_state() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "tf32": torch.backends.cudnn.allow_tf32,
        "benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "generator": torch.get_rng_state().tolist(),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)],
        "python threads": threading.enumerate(),
        "children": multiprocessing.active_children(),
        "process group": torch.distributed.is_initialized(),
        "hydra": GlobalHydra.instance().is_initialized(),
        "words": list(sys.argv),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
    }


def test_it_trains_what_the_command_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = paribus.train([*SMOKE, "technique=cutmix", f"paths.runs={tmp_path / 'a b'}"], quiet=True)
    assert run.state == "done"
    assert capsys.readouterr().out.startswith("done: val/acc1 ")
    same = trained(tmp_path / "other", *SMOKE, techniques=("cutmix",))
    assert result_in(run.path).same_as(same)
    assert run.path.name == same.folder.name
    assert read_segments(run.path)[0]["command"][:2] == ["paribus train", "experiment=smoke"]


def test_several_calls_in_one_process_leave_it_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = global_state()
    settings = [
        *SMOKE,
        "runtime.threads=2",
        "runtime.deterministic=true",
        "runtime.tf32=true",
        f"paths.runs={tmp_path}",
    ]
    runs = [paribus.train([*settings, f"seed={seed}"], quiet=True) for seed in (0, 1)]
    assert global_state() == before
    assert len({run.path for run in runs}) == 2
    assert paribus.train([*settings, "seed=0"], quiet=True) == runs[0], "a run that is done is returned"
    with pytest.raises(ConfigError):
        paribus.train([*settings, "optimizer.lr=-1"])
    assert global_state() == before


def test_a_training_that_fails_leaves_the_process_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = global_state()

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("of mine")

    monkeypatch.setattr("paribus.runs.train.evaluate", fail)
    with pytest.raises(ZeroDivisionError, match="of mine"):
        paribus.train([*SMOKE, f"paths.runs={tmp_path}"], quiet=True)
    assert global_state() == before
    (run,) = paribus.runs(tmp_path)
    assert run.state == "failed"


def test_a_hydra_of_ones_own_is_put_back(tmp_path: Path) -> None:
    with initialize_config_dir(str(find_config_folder()), version_base="1.3"):
        paribus.train([*SMOKE, "steps=2ba", f"paths.runs={tmp_path}"], quiet=True)
        assert compose("train", ["seed=7"]).seed == 7
    assert not GlobalHydra.instance().is_initialized()


def test_it_works_in_an_event_loop_and_in_another_thread(tmp_path: Path) -> None:
    """A notebook's cells run within an event loop; some front ends use a thread, where no signal handler can be set."""

    async def cell() -> paribus.Run:
        return paribus.train([*SMOKE, "steps=2ba", f"paths.runs={tmp_path / 'loop'}"], quiet=True)

    assert asyncio.run(cell()).state == "done"
    runs: list[paribus.Run] = []
    thread = threading.Thread(
        target=lambda: runs.append(
            paribus.train([*SMOKE[:3], "steps=2ba", "tracker=console", f"paths.runs={tmp_path / 'thread'}"])
        )
    )
    thread.start()
    thread.join()
    assert runs[0].state == "done"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("experiment=smoke", r"should be a list of them, such as \['experiment=smoke'\]"),
        (["experiment=smok"], "did you mean smoke"),
        (["experiment=smoke", "lr=0.1"], "did you mean optimizer.lr"),
        (["technique=cutmix", "technique=mixup"], "chosen twice"),
        (["-m", "seed=0,1"], "found -m, a flag of the command line"),
        (["smoke"], "did you mean experiment=smoke"),
        (["experiment=smoke", "steps=???"], "missing value"),
    ],
)
def test_a_mistake_is_an_error_before_anything_is_written(
    overrides: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        paribus.train(overrides)
    assert not list(tmp_path.iterdir())


def test_configs_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "my configs" / "experiment").mkdir(parents=True)
    (tmp_path / "my configs/experiment/mine.yaml").write_text("# @package _global_\nname: mine\nsteps: 2ba\n")
    words = ["experiment=mine", *SMOKE[3:], "model=convnet_tiny", "data=synthetic", f"paths.runs={tmp_path}"]
    run = paribus.train(words, quiet=True, config_dir=tmp_path / "my configs")
    assert run.config["name"] == "mine"
    with pytest.raises(ConfigError, match=r"config_dir: .*no such folder"):
        paribus.train(words, config_dir=tmp_path / "nowhere")
