"""The stage of a study in which one arm runs against itself: which arm, which seeds, what is read of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import made_up_plan, row, written
from paribus.core.errors import ConfigError
from paribus.study.load import load_study
from paribus.study.noise import format_lone_study, open_stage, read_noise
from paribus.study.rows import update_rows
from paribus.study.spec import Study

ARMS = {"a": [], "b": ["x=1"], "c": ["x=2"]}


def measured(study: Study, values: Callable[[int], float] = lambda seed: 0.9 + seed / 1000, **asked: Any) -> Study:
    """The stage, with a plan and rows."""
    stage = open_stage(study, **asked)
    stage.plan_path.parent.mkdir(exist_ok=True)
    plan = made_up_plan(stage)
    update_rows(stage, [row(cell, values(cell.seed)) for cell in plan.cells], plan.ids())
    return stage


def test_the_arm_that_most_are_compared_with_on_seeds_above_those_of_the_study(tmp_path: Path) -> None:
    pairs = [{"arm": "a", "against": "b"}, {"arm": "c", "against": "b"}, {"arm": "c", "against": "a"}]
    study = written(tmp_path, arms=ARMS, comparisons=pairs, seeds=[3, 40, 5])
    stage = open_stage(study)
    assert (tuple(stage.spec.arms), stage.spec.seeds) == (("b",), tuple(range(41, 51)))
    assert (stage.spec.recipe, stage.spec.arms["b"]) == (study.spec.recipe, ("x=1",))
    assert stage.name == f"{tmp_path.name}-noise"
    assert stage.results_path == tmp_path / "noise" / "results.jsonl"
    assert tuple(open_stage(study, "c", 4).spec.arms) == ("c",)


def test_seeds_of_other_stages_are_left_alone(tmp_path: Path) -> None:
    study = written(tmp_path)
    tuning = replace(study, stage="tune", spec=replace(study.spec, seeds=(70, 71)))
    tuning.plan_path.parent.mkdir()
    made_up_plan(tuning)
    assert open_stage(study, seeds=4).spec.seeds == (72, 73, 74, 75)


@pytest.mark.parametrize("n", [2, 5, 3])
def test_half_and_half_needs_an_even_number(tmp_path: Path, n: int) -> None:
    with pytest.raises(ConfigError, match=f"--seeds: found {n}; should be an even number, at least 4"):
        open_stage(written(tmp_path), seeds=n)


def test_an_unknown_arm_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--arm: found d; the arms are baseline, cutmix"):
        open_stage(written(tmp_path), "d")


def test_the_planned_seeds_stay_and_more_are_added(tmp_path: Path) -> None:
    measured(written(tmp_path), seeds=4)
    grown = written(tmp_path, seeds=5)  # the study has taken three of them since
    assert open_stage(grown).spec.seeds == (2, 3, 4, 5)
    assert open_stage(grown, seeds=8).spec.seeds == (2, 3, 4, 5, 6, 7, 8, 9)
    longer = written(tmp_path, seeds=20)
    assert open_stage(longer, seeds=6).spec.seeds == (2, 3, 4, 5, 20, 21)


def test_none_is_left_out_afterwards(tmp_path: Path) -> None:
    study = written(tmp_path)
    measured(study, seeds=8)
    with pytest.raises(ConfigError, match=r"--seeds: found 4; .* has 8, and leaving some out now would"):
        open_stage(study, seeds=4)


def test_another_arm_is_refused_where_one_was_measured(tmp_path: Path) -> None:
    study = written(tmp_path)
    measured(study, arm="cutmix")
    assert tuple(open_stage(study).spec.arms) == ("cutmix",)
    with pytest.raises(ConfigError, match="is of the arm cutmix, and baseline is asked for; move that folder away"):
        open_stage(study, "baseline")
    with pytest.raises(ConfigError, match=r"is of the arm cutmix, and .*study.yaml has no such arm any more"):
        open_stage(written(tmp_path, arms=ARMS))


def test_a_seed_at_the_end_of_all_seeds_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seeds: found 9223372036854775807; noise takes seeds above the largest"):
        open_stage(written(tmp_path, seeds=[2**63 - 1]))


def test_what_is_read_follows_the_study(tmp_path: Path) -> None:
    study = written(tmp_path, arms=ARMS, seeds=6)
    assert read_noise(study) is None
    measured(study)
    made_up_plan(study)
    found = read_noise(study)
    assert found is not None
    assert (found.arm, found.seeds, found.runs.n) == ("a", tuple(range(6, 16)), 10)
    assert (found.rule.margin, found.comparisons, found.changed) == (0.01, 2, "")
    assert found.planned is not None
    assert found.planned.n == 6
    assert found.comparison.estimate.mean == pytest.approx(-0.005)
    other = read_noise(written(tmp_path, arms=ARMS, seeds=6, smallest_effect=0.02))
    assert other is not None
    assert other.rule.margin == 0.02


def test_a_recipe_that_was_changed_since_is_told_by_its_keys(tmp_path: Path) -> None:
    study = written(tmp_path)
    measured(study)
    made_up_plan(study, lr=0.2)
    found = read_noise(study)
    assert found is not None
    assert found.changed == "optimizer.lr was 0.1, is 0.2"


def test_rows_of_another_recipe_than_the_planned_one_do_not_count(tmp_path: Path) -> None:
    study = written(tmp_path)
    stage = measured(study)
    made_up_plan(stage, lr=0.2)
    found = read_noise(study)
    assert found is not None
    assert (found.runs.n, len(found.missing)) == (0, 10)


def test_rows_without_their_plan_are_refused(tmp_path: Path) -> None:
    study = written(tmp_path)
    measured(study).plan_path.unlink()
    with pytest.raises(ConfigError, match=r"noise/plan.jsonl: is missing .* restore it"):
        read_noise(study)


def test_a_recipe_of_its_own_is_a_study_in_the_making(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        format_lone_study(("experiment=smoke", "technique=[cutmix,adamp]"), "val/acc1", True, 0.005, "../own")
    )
    study = load_study(tmp_path, lone=True)
    assert study.spec.recipe == ("experiment=smoke", "technique=[cutmix,adamp]")
    assert (study.spec.smallest_effect, study.config_dir) == (0.005, "../own")
    assert open_stage(study).spec.seeds == tuple(range(10, 20))
    with pytest.raises(ConfigError, match="arms: found 1; a comparison needs two"):
        load_study(tmp_path)
    text = (tmp_path / "study.yaml").read_text()
    (tmp_path / "study.yaml").write_text(text.replace("  baseline: []", "  baseline: []\n  late: [steps=30ba]"))
    assert load_study(tmp_path).spec.arms["late"] == ("steps=30ba",)


def test_without_a_margin_none_is_stated(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(format_lone_study(("experiment=smoke",), "val/loss", False, None, None))
    study = load_study(tmp_path, lone=True)
    assert (study.spec.smallest_effect, study.spec.higher_is_better) == (0.0, False)
    two = (tmp_path / "study.yaml").read_text().replace("  baseline: []", "  baseline: []\n  b: [x=1]")
    (tmp_path / "study.yaml").write_text(two)
    with pytest.raises(ConfigError, match="smallest_effect: missing"):
        load_study(tmp_path, lone=True)


def test_the_seeds_that_tuning_will_take_are_left_to_it(tmp_path: Path) -> None:
    space = {"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}}
    study = written(tmp_path, seeds=4, settings=None, tune={"space": space, "trials": 2, "seeds": [4, 5, 9]})
    assert open_stage(study).spec.seeds[0] == 10
