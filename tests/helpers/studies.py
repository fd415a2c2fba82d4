"""Small studies for tests: a folder with a study.yaml, a plan made up without composing, and cells that only pretend.

A made-up cell takes its run folder's lock, writes what a run would, and marks it, all within a tenth of a second; the
launcher cannot tell it from training.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from paribus.core import runfolder
from paribus.study.plan import Cell, Plan
from paribus.study.plan import text_of as plan_text
from paribus.study.rows import Row
from paribus.study.runner import cells
from paribus.study.spec import Study, load

SPEC: dict[str, Any] = {
    "question": "Is it any good?",
    "recipe": ["experiment=smoke", "steps=20ba", "every.evaluate=10ba"],
    "arms": {"baseline": [], "cutmix": ["technique=cutmix"]},
    "seeds": 2,
    "metric": "val/acc1",
    "smallest_effect": 0.01,
    "settings": "paper",
}


def written(folder: Path, **changes: Any) -> Study:
    """A study folder whose study.yaml is SPEC with these keys changed; None takes one out."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {key: value for key, value in {**SPEC, **changes}.items() if value is not None}
    (folder / "study.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return load(folder)


def made_up_plan(study: Study, *, lr: float = 0.1, device: str = "cpu") -> Plan:
    """A plan whose recipes are {"optimizer": {"lr": lr}, "arm": arm}, frozen in the study's folder."""
    made = tuple(
        Cell(
            arm, seed, f"{arm}-{seed}-{lr}", f"made-up-{arm}-s{seed}", (f"arm={arm}", f"seed={seed}"), f"{arm}-s{seed}"
        )
        for arm in study.spec.arms
        for seed in study.spec.seeds
    )
    recipes = {arm: {"arm": arm, "optimizer": {"lr": lr}} for arm in study.spec.arms}
    plan = Plan(study.name, recipes, dict.fromkeys(study.spec.arms, device), made)
    study.plan_path.write_text(plan_text(plan))
    return plan


def row(cell: Cell, value: float = 0.5, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "study": "made-up",
        "arm": cell.arm,
        "seed": cell.seed,
        "id": cell.id,
        "state": "done",
        "metrics": {"val/acc1": value},
        "curves": {"val/acc1": [[10, value / 2], [20, value]]},
        "cost": {"train_s": 7.0, "eval_s": 1.0},
        "steps": 20,
        "sizes": {"train": 256},
        "data_checksum": "0",
        "fingerprint": {"threads": 1},
        "segments": 1,
        "mixed": False,
        "commit": None,
        "dirty": False,
        "hardware": {"cpu": "made up", "cores": 1, "gpu": None},
    }
    return Row(**{**values, **changes})


def finished(folder: Path, cell: Cell, value: float = 0.5, state: str = "DONE", why: str = "") -> None:
    """What a run leaves behind that ended after 20 steps, with two evaluations."""
    (folder / runfolder.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    clocks = {"time/train_s": 7.0, "time/eval_s": 1.0, "throughput/samples_per_sec": 300.0, "memory/peak_gb": 0.5}
    events = [
        {"step": 5, "values": {"train/loss": 3.0, "lr": 0.1, **clocks}},
        {"step": 10, "values": {"val/acc1": value / 2, "time/eval_s": 0.5}},
        {"step": 15, "values": {"train/loss": 2.0, "lr": 0.1, **clocks}},
        {"step": 20, "values": {"train/loss": 1.0, "lr": 0.0, "val/acc1": value, **clocks}},
    ]
    (folder / runfolder.EVENTS).write_text("".join(json.dumps(event) + "\n" for event in events))
    segments = (
        json.loads((folder / runfolder.PROVENANCE).read_text())["segments"]
        if (folder / runfolder.PROVENANCE).exists()
        else []
    )
    segments.append({"fingerprint": {"threads": 1}, "commit": "c0ffee", "dirty": False, "cpu": "made up", "cores": 1})
    (folder / runfolder.PROVENANCE).write_text(json.dumps({"segments": segments}))
    summary = {
        "id": cell.id,
        "seed": cell.seed,
        "state": state,
        "step": 20,
        "steps": 20,
        "sizes": {"train": 256},
        "data_checksum": "0",
        "model": {"parameters": 1000, "macs": 5000},
        "metrics": {**events[0]["values"], **events[1]["values"], **events[3]["values"]},
    }
    (folder / runfolder.SUMMARY).write_text(json.dumps(summary))
    (folder / state).write_text(f"{why}\n" if why else "")


def pretend(monkeypatch: pytest.MonkeyPatch, script: dict[str, list[str]]) -> None:
    """Let cells do what the script says, cell -> an action for each start: see `_act`. After the last one: "done"."""

    def command(runs: Path, cell: Cell) -> list[str]:
        values = {"runs": str(runs), "script": script.get(cell.name, []), "cell": [*vars(cell).values()]}
        return [sys.executable, __file__, json.dumps(values)]

    monkeypatch.setattr(cells, "command_of", command)
    monkeypatch.setenv("PYTHONPATH", str(Path(cells.__file__).parents[2]))


def _act(runs: Path, script: list[str], cell: Cell) -> int:
    """done | fail | refuse | requeue | die | silent, and before it `SECONDS+` to take a while over it."""
    import os
    import signal
    import time

    from paribus.core.errors import ConfigError
    from paribus.core.lock import locked

    log = cells.log_of(runs, cell).read_text()
    starts = log.count("== start ")
    action = script[starts - 1] if starts <= len(script) else "done"
    seconds, _, action = action.rpartition("+")
    if action == "refuse":
        print("paribus: optimizer.lr: found -1; should be greater than 0", file=sys.stderr)
        return 2
    folder = runs / cell.folder
    folder.mkdir(exist_ok=True)
    try:
        with locked(folder):
            for state in runfolder.STATES:
                (folder / state).unlink(missing_ok=True)
            time.sleep(float(seconds or 0))
            if action == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if action == "done":
                finished(folder, cell, 0.5 + cell.seed / 100)
            if action == "fail":
                print(f"paribus: {folder}: the loss is not finite", file=sys.stderr)
                finished(folder, cell, state="FAILED", why="the loss is not finite")
            if action == "requeue":
                (folder / "PREEMPTED").touch()
    except ConfigError as error:
        print(f"paribus: {error}", file=sys.stderr)
        return 2
    return {"fail": 1, "requeue": 75}.get(action, 0)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    sys.exit(_act(Path(asked["runs"]), asked["script"], Cell(*asked["cell"])))
