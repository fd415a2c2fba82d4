"""Cells of a study that only pretend to train.

A made-up cell takes its run folder's lock, writes what a run would, and marks it, all within a tenth of a second; asked
to stop, it leaves with 75. The launcher cannot tell it from training.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.studies import finished
from paribus.core import runfolder
from paribus.study.plan import Cell
from paribus.study.runner import cells


def pretend(monkeypatch: pytest.MonkeyPatch, script: dict[str, list[str]]) -> None:
    """Let cells do what the script says, cell -> an action for each start: see `_act`. After the last one: "done"."""

    def command(runs: Path, cell: Cell) -> list[str]:
        values = {"runs": str(runs), "script": script.get(cell.name, []), "cell": [*vars(cell).values()]}
        return [sys.executable, __file__, json.dumps(values)]

    monkeypatch.setattr(cells, "build_command", command)
    monkeypatch.setenv("PYTHONPATH", str(Path(cells.__file__).parents[2]))


def _act(runs: Path, script: list[str], cell: Cell) -> int:
    """done | done=VALUE | fail | refuse | requeue | die | silent, and before it `SECONDS+` to take a while over it, or
    `FILE+` to wait until there is such a file in the folder of runs. `deaf` waits as well, ignores SIGTERM, and then is
    done. `starting` waits before it holds its run folder, where SIGTERM kills it as before Python has started, and then
    does as `go+done`. A cell that is planned to measure minival does so."""
    import os
    import signal

    from paribus.core.errors import ConfigError
    from paribus.core.lock import locked

    log = cells.log_path(runs, cell).read_text()
    starts = log.count("== start ")
    action = script[starts - 1] if starts <= len(script) else "done"
    wait_for, _, action = action.rpartition("+")
    if action == "starting":
        _wait(runs, wait_for)
        wait_for, action = "go", "done"
    action, _, value = action.partition("=")
    metric = "minival/acc1" if any("splits=[minival]" in override for override in cell.overrides) else "val/acc1"
    if action == "refuse":
        print("paribus: optimizer.lr: found -1; should be greater than 0", file=sys.stderr)
        return 2
    folder = runs / cell.folder
    folder.mkdir(exist_ok=True)
    try:
        with locked(folder):
            for state in runfolder.STATES:
                (folder / state).unlink(missing_ok=True)
            signal.signal(signal.SIGTERM, lambda *_: _leave(folder))
            if action == "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                action = "done"
            (folder / "begun").touch()
            _wait(runs, wait_for)
            if action == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if action == "done":
                finished(folder, cell, float(value or 0.5 + cell.seed / 100), metric=metric)
            if action == "fail":
                print(f"paribus: {folder}: the loss is not finite", file=sys.stderr)
                finished(folder, cell, state="FAILED", why="the loss is not finite")
            if action == "requeue":
                (folder / "PREEMPTED").touch()
    except ConfigError as error:
        print(f"paribus: {error}", file=sys.stderr)
        return 2
    return {"fail": 1, "requeue": 75}.get(action, 0)


def _wait(runs: Path, what: str) -> None:
    """Seconds, or the name of a file; at most a minute, so that no cell of a failed test goes on for ever."""
    import time

    is_file = bool(what) and not what.replace(".", "").isdecimal()
    deadline = time.monotonic() + (60 if is_file else float(what or 0))
    while time.monotonic() < deadline and not (is_file and (runs / what).exists()):
        time.sleep(0.02)


def _leave(folder: Path) -> None:
    import os

    (folder / runfolder.CHECKPOINTS).mkdir(exist_ok=True)
    (folder / runfolder.CHECKPOINTS / "last").write_text("step_00000007.pt")
    (folder / "PREEMPTED").touch()
    (folder / "begun").unlink()
    os._exit(75)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    sys.exit(_act(Path(asked["runs"]), asked["script"], Cell(*asked["cell"])))
