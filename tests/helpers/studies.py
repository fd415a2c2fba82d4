"""Small studies for tests: a folder with a study.yaml, a plan made up without composing, rows and finished runs."""

import json
from pathlib import Path
from typing import Any

import yaml

from paribus.core import runfolder
from paribus.study.frozen import freeze_spec
from paribus.study.load import load_study
from paribus.study.plan import Cell, Plan
from paribus.study.plan import format_plan as plan_text
from paribus.study.rows import Row
from paribus.study.spec import Study

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
    return load_study(folder)


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
    plan = Plan(study.name, recipes, dict.fromkeys(study.spec.arms, device), made, freeze_spec(study.spec))
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


def finished(
    folder: Path, cell: Cell, value: float = 0.5, state: str = "DONE", why: str = "", metric: str = "val/acc1"
) -> None:
    """What a run leaves behind that ended after 20 steps, with two evaluations."""
    (folder / runfolder.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    clocks = {"time/train_s": 7.0, "time/eval_s": 1.0, "throughput/samples_per_sec": 300.0, "memory/peak_gb": 0.5}
    events = [
        {"step": 5, "values": {"train/loss": 3.0, "lr": 0.1, **clocks}},
        {"step": 10, "values": {metric: value / 2, "time/eval_s": 0.5}},
        {"step": 15, "values": {"train/loss": 2.0, "lr": 0.1, **clocks}},
        {"step": 20, "values": {"train/loss": 1.0, "lr": 0.0, metric: value, **clocks}},
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
