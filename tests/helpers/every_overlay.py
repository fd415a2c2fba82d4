"""Train every overlay for 20 steps in float64, in however many processes torchrun starts. Nets without BatchNorm."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.trainings import OVERLAYS, run
from paribus.engine.distributed import destroy_process_group


def run_overlay(techniques: tuple[str, ...], recipe: list[str], runs: Path) -> tuple[int, Path]:
    """Exit code and run folder. recipe: the overrides of one that they fit, which takes seconds to find."""
    overrides = [*recipe, "steps=20ba", "update.precision=fp64"]
    if any("mobile" in o for o in overrides):
        overrides.append("model.norm=group")
    return run(runs, *overrides, techniques=techniques)


if __name__ == "__main__":
    for techniques, recipe in zip(OVERLAYS, json.loads(sys.argv[2]), strict=True):
        code, _ = run_overlay(techniques, recipe, Path(sys.argv[1]))
        if code:
            sys.exit(f"{techniques}: exit code {code}")
    destroy_process_group()
