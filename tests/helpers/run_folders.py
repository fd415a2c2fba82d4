"""Run folders that were never trained in."""

import json
from pathlib import Path

from paribus.core import runfolder

METRICS = {"val/acc1": 0.98765, "time/train_s": 8.14, "train/loss": 0.1}


def made(
    folder: Path, name: str, marker: str | None = "DONE", why: str = "", steps: str = "60ba", summary: bool = True
) -> Path:
    run = folder / name
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text(f"name: x\nseed: 0\nsteps: {steps}\nbatch_size: 32\n")
    (run / "provenance.json").write_text(json.dumps({"segments": [{"time": "2026-11-22T10:00:00+00:00"}]}))
    (run / "events.jsonl").write_text('{"step": 10, "values": {"val/acc1": 0.5}}\n{"step": 20, "values": {"lr": 1}}\n')
    if summary:
        (run / "summary.json").write_text(json.dumps({"step": 60, "steps": 60, "metrics": METRICS}))
    runfolder.write_state(run, marker, why)
    return run


def to_complete(folder: Path) -> None:
    """Two runs whose names begin alike, a folder with a folder in it, and a hidden one: for the Tab key."""
    for name in ("smoke-cutmix-s0-0a", "smoke-cutmix-s1-0b"):
        (folder / "runs" / name / "checkpoints").mkdir(parents=True)
        (folder / "runs" / name / "config.yaml").write_text("")
    (folder / "elsewhere" / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
