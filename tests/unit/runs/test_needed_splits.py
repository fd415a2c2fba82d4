"""`paribus eval` where evaluators need a split beside those they measure: trees without it, and --split."""

from typing import Any

import pytest

from helpers.trainings import recipe_of
from paribus.evaluators.calibration import Calibration
from paribus.evaluators.ood import OutOfDistribution
from paribus.recipe.recipe import Recipe
from paribus.runs.chosen_evaluators import on_splits
from paribus.runs.evaluation import _with_only_val


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return recipe_of("experiment=smoke", "evaluators=[accuracy,calibration,per_class,ood]", "data.minival=20")


def test_a_tree_without_minival_is_evaluated_without_a_temperature(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = _with_only_val(recipe).evaluators
    assert kept == {**recipe.evaluators, "calibration": Calibration(temperature_split=None)}
    said = capsys.readouterr().err
    assert said == (
        "warning: evaluators.calibration.temperature_split: the tree has no minival; evaluated with "
        "temperature_split=null\n"
    )


def test_what_cannot_do_without_the_split_is_left_out(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.evaluators["ood"], before = OutOfDistribution(split="minival"), recipe.evaluators["ood"]
    try:
        assert "ood" not in _with_only_val(recipe).evaluators
    finally:
        recipe.evaluators["ood"] = before
    assert "evaluators.ood.split: the tree has no minival; it is left out" in capsys.readouterr().err


def test_splits_of_the_command_line(recipe: Recipe) -> None:
    config: dict[str, Any] = recipe.config["evaluators"]
    changed = on_splits(config, ["minival", "val"])
    assert changed["accuracy"]["splits"] == changed["calibration"]["splits"] == ["minival", "val"]
    assert changed["ood"]["split"] == "minival"
    assert changed["calibration"]["temperature_split"] == "minival"
    assert on_splits(config, []) == config
