"""Several gloo processes against one: the same samples, augmentation, partners and boxes, and exact evaluation."""

import json
from pathlib import Path

import pytest

from helpers.every_overlay import run_overlay
from helpers.trainings import OVERLAYS, recipe_of, result_in, smoke_recipe_for, stopping_after, timeless, trained
from helpers.worlds import COMMON, furthest, in_worlds, together, torchrun
from paribus.core.lock import locked

TWO_NETWORKS = ("experiment=smoke_images", "experiment=smoke_translation")


@pytest.mark.parametrize("processes", in_worlds())
def test_several_processes_train_the_net_of_one(processes: int, tmp_path: Path) -> None:
    overrides = ["update.precision=fp64", "update.accumulate=2"]
    one = trained(tmp_path / "one", *COMMON, *overrides, techniques=("cutmix",))
    several = together(tmp_path / "several", processes, *overrides, "technique=[cutmix]")
    assert furthest(one, several) <= 1e-12  # promised: 1e-6
    for (step, ours), (same, theirs) in zip(timeless(one.events), timeless(several.events), strict=True):
        assert step == same
        assert ours.keys() == theirs.keys()
        assert all(abs(ours[k] - theirs[k]) < 1e-10 for k in ours)
        assert ours.get("val/acc1") == theirs.get("val/acc1"), "no prediction is near enough to a tie to turn"
    other = trained(tmp_path / "other", *COMMON, *overrides, "seed=5", techniques=("cutmix",))
    assert furthest(several, other) > 1e-3, "negative control: another seed is far away"


@pytest.mark.slow
def test_in_float32_they_are_as_near_as_promised(tmp_path: Path) -> None:
    # of a seed with which no rounding error turns the sign of a unit; docs/reliability.md has the table of many seeds
    one = trained(tmp_path / "one", *COMMON, "seed=6", techniques=("cutmix",))
    four = together(tmp_path / "four", 4, "seed=6", "technique=[cutmix]")
    assert furthest(one, four) <= 1e-4


def test_a_run_resumes_at_other_world_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["update.precision=fp64"]
    whole = trained(tmp_path / "whole", *COMMON, *overrides, techniques=("cutmix",))
    with monkeypatch.context() as patched:
        stopping_after(patched, 23)
        assert trained(tmp_path / "parts", *COMMON, *overrides, techniques=("cutmix",)).code == 75
    for processes, last in ((2, 40), (4, 50)):
        resumed = together(tmp_path / "parts", processes, *overrides, "technique=[cutmix]")
        if last == 40:  # as if killed after the checkpoint at step 40
            (resumed.folder / "checkpoints" / "step_00000050.pt").unlink()
            (resumed.folder / "DONE").unlink()
    assert furthest(whole, resumed) <= 1e-12
    segments = json.loads((resumed.folder / "provenance.json").read_text())["segments"]
    assert [(s["start_step"], s["fingerprint"]["world_size"]) for s in segments] == [(0, 1), (23, 2), (40, 4)]


def test_two_processes_start_from_a_run_of_one(tmp_path: Path) -> None:
    """Rank 0 decides that it is continued, or not, and both load: with a head of another size, the same new one."""
    overrides = ["update.precision=fp64", "schedule=constant"]
    short = trained(tmp_path / "short", *COMMON, *overrides, "steps=20ba")
    for name, more in {"longer": ["steps=30ba"], "new": ["steps=10ba", "data.classes=3"]}.items():
        start = [*overrides, *more, f"init_from={short.folder}"]
        one = trained(tmp_path / name / "one", *COMMON, *start)
        two = together(tmp_path / name / "two", 2, *start)
        assert furthest(one, two) <= 1e-12, name
        segments = json.loads((two.folder / "provenance.json").read_text())["segments"]
        worlds = [(0, 1), (20, 2)] if name == "longer" else [(0, 2)]
        assert [(s["start_step"], s["fingerprint"]["world_size"]) for s in segments] == worlds
    whole = trained(tmp_path / "whole", *COMMON, *overrides, "steps=30ba")
    assert furthest(whole, result_in(next((tmp_path / "longer" / "two").iterdir()))) <= 1e-12


def test_all_ranks_hold_the_same_bits_and_project_alike(tmp_path: Path) -> None:
    code, err = torchrun(4, str(Path(__file__).with_name("ranks_agree.py")), str(tmp_path))
    assert code == 0, err


@pytest.mark.parametrize(("accumulate", "precision"), [(1, "fp32"), (4, "bf16")])
def test_gradients_cross_the_network_once_a_step(accumulate: int, precision: str, tmp_path: Path) -> None:
    code, err = torchrun(2, str(Path(__file__).with_name("count_syncs.py")), str(accumulate), precision)
    assert code == 0, err


def test_every_overlay_agrees_in_one_process_and_two(tmp_path: Path) -> None:
    script, recipes = Path(__file__).parents[1] / "helpers" / "every_overlay.py", list(map(smoke_recipe_for, OVERLAYS))
    code, err = torchrun(2, str(script), str(tmp_path / "two"), json.dumps(recipes))
    assert code == 0, err
    for techniques, recipe in zip(OVERLAYS, recipes, strict=True):
        name = "+".join(techniques) or "baseline"
        code, folder = run_overlay(techniques, recipe, tmp_path / "one")
        assert code == 0
        one, two = result_in(folder), result_in(tmp_path / "two" / folder.relative_to(tmp_path / "one"))
        # where two networks follow each other, rounding of gradients near 0 grows, as Adam divides them by their size
        assert furthest(one, two) <= (1e-7 if recipe[0] in TWO_NETWORKS else 1e-10), name


def test_what_stops_rank_0_stops_all_with_its_line(tmp_path: Path) -> None:
    folder = recipe_of(*COMMON, f"paths.runs={tmp_path}").folder
    folder.mkdir(parents=True)
    with locked(folder):
        code, err = torchrun(2, "-m", "paribus.cli", "train", *COMMON, f"paths.runs={tmp_path}")
    assert code != 0
    assert "paribus: " in err
    assert "is in use by process" in err  # of both, unless torchrun ends the second before it has spoken
    assert "paribus/runs/train.py" not in err


def test_a_record_that_two_processes_resumed_is_the_undisturbed_one(tmp_path: Path) -> None:
    overrides = ["every.log=20ba", "every.checkpoint=30ba", "technique=[cutmix]", "steps=40ba"]
    whole = together(tmp_path / "whole", 2, *overrides)
    parts = together(tmp_path / "parts", 2, *overrides)
    (parts.folder / "checkpoints" / "step_00000040.pt").unlink()  # as if killed after step 30
    (parts.folder / "DONE").unlink()
    again = together(tmp_path / "parts", 2, *overrides)
    assert again.same_as(whole)
    code, err = torchrun(2, "-m", "paribus.cli", "verify", str(again.folder), "--span=30:")
    assert code == 0, err
    code, err = torchrun(2, "-m", "paribus.cli", "verify", str(again.folder), "--steps=9", "seed=1")
    assert code != 0
    assert "seed: cannot be overridden here" in err  # the first that says so ends the other, perhaps before it spoke
