"""Signals to a process that calls paribus.train: a checkpoint first, then to whoever handles them there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import signal
import paribus
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
words = ["experiment=smoke", "steps=400000ba", "every.log=1ba", "every.evaluate=400000ba", "every.checkpoint=400000ba"]
words += ["tracker=events", "runtime.threads=1", "runtime.device=cpu"]
try:
    run = paribus.train(words)
except KeyboardInterrupt:
    (run,) = paribus.runs()
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("interrupted", run.state, usual, flush=True)
"""


def start(folder: Path, script: str = SCRIPT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_steps(folder: Path, process: subprocess.Popen[str], steps: int) -> Path:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        for path in folder.glob("runs/*/events.jsonl"):
            if path.read_text().count("\n") >= steps:
                return path.parent
        time.sleep(0.02)
    raise AssertionError(process.communicate())


def newest(run: Path) -> int:
    return int((run / "checkpoints" / "last").read_text().strip().removeprefix("step_").removesuffix(".pt"))


def test_an_interrupt_leaves_a_checkpoint_and_is_then_a_keyboard_interrupt(tmp_path: Path) -> None:
    process = start(tmp_path)
    run = wait_for_steps(tmp_path, process, 5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "interrupted preempted True"
    assert newest(run) >= 5
    assert json.loads((run / "summary.json").read_text())["state"] == "PREEMPTED"


def test_a_schedulers_signal_ends_the_process_after_its_checkpoint(tmp_path: Path) -> None:
    process = start(tmp_path)
    run = wait_for_steps(tmp_path, process, 5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGTERM
    assert (run / "PREEMPTED").exists()
    assert newest(run) >= 5


def test_a_second_interrupt_does_not_end_the_process(tmp_path: Path) -> None:
    """The command line exits at once there. A notebook's kernel holds more than this run."""
    slow = SCRIPT.replace(
        "try:\n",
        "import time, paribus.runs.train as t\n"
        "t.evaluate = lambda *_: print('evaluating', flush=True) or time.sleep(60)\n"
        "words[1:5] = ['steps=5ba', 'every.log=1ba', 'every.evaluate=2ba', 'every.checkpoint=1ba']\ntry:\n",
    )
    process = start(tmp_path, slow)
    assert process.stdout is not None
    assert process.stderr is not None
    assert any(line == "evaluating\n" for line in process.stdout)
    process.send_signal(signal.SIGINT)
    assert any("stopping after this step" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "interrupted stopped True"
    (run,) = (tmp_path / "runs").iterdir()
    assert newest(run) == 1
