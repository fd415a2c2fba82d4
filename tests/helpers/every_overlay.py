"""Train every overlay for 20 steps in float64, in however many processes torchrun starts. Nets without BatchNorm."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.trainings import OVERLAYS, run, smoke_recipe_for
from paribus.engine.distributed import destroy_process_group


def run_overlay(techniques: tuple[str, ...], runs: Path) -> tuple[int, Path]:
    """Exit code and run folder."""
    overrides = [*smoke_recipe_for(techniques), "steps=20ba", "update.precision=fp64"]
    if any("mobile" in o for o in overrides):
        overrides.append("model.norm=group")
    return run(runs, *overrides, techniques=techniques)


if __name__ == "__main__":
    for techniques in OVERLAYS:
        code, _ = run_overlay(techniques, Path(sys.argv[1]))
        if code:
            sys.exit(f"{techniques}: exit code {code}")
    destroy_process_group()
