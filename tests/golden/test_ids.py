"""Ids of what is on record do not move: not by code that moves, not by keys that come later."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.trainings import recipe_of
from paribus.core import class_paths
from paribus.core.build import resolve
from paribus.recipe import identity
from paribus.recipe.arms import build_plan
from paribus.recipe.tuning_plan import build_tuning_plan
from paribus.study.load import load_study
from paribus.study.plan import read_plan
from paribus.study.rows import read_rows
from paribus.study.tuned import apply_chosen, find_chosen, open_stage

ROOT = Path(__file__).parents[2]
RECORDED = sorted(path.parent for path in (ROOT / "experiments").glob("*/plan.jsonl"))
TUNED = sorted(path.parents[1] for path in (ROOT / "experiments").glob("*/tune/plan.jsonl"))


@pytest.mark.parametrize("folder", RECORDED, ids=[folder.name for folder in RECORDED])
def test_every_cell_of_a_committed_plan_has_the_id_on_record(folder: Path) -> None:
    study = load_study(folder)
    chosen = find_chosen(study)
    made = build_plan(study if chosen is None else apply_chosen(study, chosen))
    recorded = read_plan(study.plan_path)
    assert recorded is not None
    assert {cell.name: cell.id for cell in made.cells} == {cell.name: cell.id for cell in recorded.cells}
    assert made.recipes == recorded.recipes
    ids = {cell.name: cell.id for cell in made.cells}
    assert all(ids[row.cell] == row.id for row in read_rows(study.results_path))


@pytest.mark.parametrize("folder", TUNED, ids=[folder.name for folder in TUNED])
def test_every_trial_of_a_committed_tuning_has_the_id_on_record(folder: Path) -> None:
    study = load_study(folder)
    stage = open_stage(study)
    ids, rows = build_tuning_plan(study).ids(), read_rows(stage.results_path)
    recorded = read_plan(stage.plan_path, folder)
    assert recorded is not None
    assert ids == recorded.ids()
    assert rows
    assert all(ids[row.cell] == row.id for row in rows)


def test_every_old_class_path_is_that_class_today() -> None:
    for old, new in class_paths.MOVED.items():
        cls = resolve(old, "")
        assert f"{cls.__module__}.{cls.__qualname__}" == new


def test_no_class_path_has_two_pasts() -> None:
    assert len(set(class_paths.MOVED.values())) == len(class_paths.MOVED)
    assert not set(class_paths.MOVED) & set(class_paths.MOVED.values())


def test_a_class_that_moved_is_hashed_as_what_it_was() -> None:
    node = {"a": [{"_target_": "paribus.models.exported.Exported", "path": "x"}], "_target_": "mine.Thing"}
    assert class_paths.to_recorded_names(node) == {
        "a": [{"_target_": "paribus.exported.Exported", "path": "x"}],
        "_target_": "mine.Thing",
    }


def config(**changes: Any) -> dict[str, Any]:
    return {**recipe_of("experiment=smoke").config, **changes}


@pytest.mark.parametrize("path", ["data.later", "later", "transforms.*.later", "evaluators.accuracy.later"])
@pytest.mark.parametrize("neutral", [None, 0, False, [], {}, "off"])
def test_a_later_key_at_its_neutral_value_leaves_the_id(
    path: str, neutral: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = config(transforms={"mix": {"_target_": "mine.Mix", "alpha": 1.0}})
    was = identity.hash_recipe(identity.computed_part(before))
    monkeypatch.setattr(identity, "LATER_KEYS", {**identity.LATER_KEYS, path: neutral})
    assert identity.hash_recipe(identity.computed_part(with_key(before, path, neutral))) == was
    # negative control: any other value is another run, also one that == calls equal
    for other in (1, True, 0, False, "on", None):
        if type(other) is not type(neutral) or other != neutral:
            assert identity.hash_recipe(identity.computed_part(with_key(before, path, other))) != was, other


def with_key(node: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    first = "mix" if first == "*" else first
    return {**node, first: with_key(node.get(first, {}), rest, value) if rest else value}


def test_negative_control_a_forgotten_line_in_the_table_moves_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    was = recipe_of("experiment=smoke").id
    monkeypatch.setattr(identity, "LATER_KEYS", {})
    assert identity.hash_recipe(identity.computed_part(recipe_of("experiment=smoke").config)) != was


def test_the_id_of_a_recorded_config_needs_no_torch() -> None:
    import subprocess
    import sys

    run = ROOT / "tests" / "golden" / "run_0.1.0"
    code = (
        "import sys, json, yaml; from paribus.recipe.identity import computed_part, hash_recipe\n"
        f"config = yaml.safe_load(open({str(run / 'config.yaml')!r}))\n"
        "print(json.dumps([hash_recipe(computed_part(config)), 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [json.loads((run / "summary.json").read_text())["id"], False]
