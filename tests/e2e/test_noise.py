"""`paribus study noise` on a recipe that really trains, and on the study that its folder becomes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from helpers.own_configs import written_lab
from paribus.study.load import load_study
from paribus.study.noise import read_noise
from paribus.study.plan import read_plan
from paribus.study.rows import read_rows

Run = Callable[..., CompletedProcess[str]]


def test_a_recipe_of_the_users_own_against_itself_and_then_a_study(paribus: Run, tmp_path: Path) -> None:
    configs = written_lab(tmp_path / "lab", "noise_lab")
    path = os.pathsep.join([str(tmp_path / "lab"), os.environ.get("PYTHONPATH", "")])
    recipe = ("experiment=smoke", "technique=tint", "steps=10ba")
    words = ("study", "noise", *recipe, "--config-dir", str(configs), "--seeds", "4", "--workers", "2")
    done = paribus(*words, "--json", "n.json", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "baseline against itself, on seeds 10 to 13" in done.stdout
    folder = tmp_path / "noise_smoke"
    rows = read_rows(folder / "noise" / "results.jsonl")
    assert [row.seed for row in rows] == [10, 11, 12, 13]
    found = json.loads((tmp_path / "n.json").read_text())
    assert found["runs"]["mean"] == sum(row.metrics["val/acc1"] for row in rows) / 4
    plan = read_plan(folder / "noise" / "plan.jsonl", folder)
    assert plan is not None
    assert all(cell.config_dir == str(configs) for cell in plan.cells), "the plan finds them from the study's folder"

    alone = (folder / "study.yaml").read_text()
    two = alone.replace("  baseline: []", "  baseline: []\n  longer: [steps=12ba]") + "smallest_effect: 1pt\n"
    for text, changed in ((two, ""), (two.replace("steps=10ba", "steps=11ba"), "steps was 10ba, is 11ba")):
        (folder / "study.yaml").write_text(text)
        done = paribus("study", "plan", "noise_smoke", cwd=tmp_path, PYTHONPATH=path)
        assert done.returncode == 0, done.stdout + done.stderr
        noise = read_noise(load_study(folder))
        assert noise is not None
        assert (noise.changed, noise.runs.n) == (changed, 4)

    done = paribus("study", "noise", "noise_smoke", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 2
    assert "noise: arms.baseline: the recipe has changed since its rows were recorded: steps was 10ba" in done.stderr
    assert read_rows(folder / "noise" / "results.jsonl") == rows
