"""Recipes for a GPU name the precision they train in, and say why."""

import re

import pytest
import yaml

from helpers.trainings import recipe_of
from paribus.core.build import build
from paribus.methods.update import GradientStep
from paribus.recipe.configs import find_config_folder, list_options

SMOKE = ("", "_mobile", "_vit", "_groups", "_captions", "_images", "_translation")
ON_A_CPU = {"quickstart", *(f"smoke{net}" for net in SMOKE)}
ON_A_CPU |= {*(f"cifar10_small{net}" for net in ("", "_mobile", "_vit")), "adult_mlp", "compas_mlp"}
ON_A_CPU |= {"biased_mnist_small", "cluttered_mnist_small", "digit_tiles_small", "shape_captions"}
ON_A_CPU |= {"cifar10_dcgan_small", "domain_digits_small", "domain_digits_classifier"}
FOR_A_GPU = sorted(set(list_options("experiment")) - ON_A_CPU)


def text_of(name: str) -> str:
    return (find_config_folder() / "experiment" / f"{name}.yaml").read_text()


def precision_line(name: str) -> str:
    """The line that names the precision, here or in the experiment that this one starts from."""
    found = re.findall(r"^update: .*precision.*$", text_of(name), flags=re.MULTILINE)
    if found:
        return found[0]
    (parent,) = [
        entry for entry in yaml.safe_load(text_of(name))["defaults"] if isinstance(entry, str) and entry != "_self_"
    ]
    return precision_line(parent)


def test_there_are_recipes_for_a_gpu_and_those_for_a_cpu_stay_as_they_are() -> None:
    assert len(FOR_A_GPU) >= 16
    for name in ON_A_CPU:
        recipe = recipe_of(f"experiment={name}")
        assert (recipe.config["update"]["precision"], recipe.runtime.tf32) == ("fp32", False), name


@pytest.mark.parametrize("name", FOR_A_GPU)
def test_a_recipe_for_a_gpu_trains_in_bf16_or_says_tf32_and_why(name: str) -> None:
    """Plain float32 leaves a GPU's matrix units unused, and nobody chose it."""
    recipe = recipe_of(f"experiment={name}")
    precision = recipe.config["update"]["precision"]
    assert precision == "bf16" or (precision == "fp32" and recipe.runtime.tf32)
    assert re.fullmatch(rf"update: \{{precision: {precision}\}}\s+# \S.{{10,}}", precision_line(name))


def test_tf32_is_no_part_of_an_id_and_precision_is() -> None:
    here, plain = (recipe_of("experiment=cifar100_pyramidnet200", f"runtime.tf32={on}") for on in ("true", "false"))
    assert here.id == plain.id
    assert recipe_of("experiment=cifar100_pyramidnet200", "update.precision=bf16").id != here.id


def test_a_deterministic_runtime_keeps_what_the_recipe_says_of_tf32() -> None:
    recipe = recipe_of("experiment=cifar100_pyramidnet200", "runtime=deterministic")
    assert (recipe.runtime.tf32, recipe.runtime.deterministic) == (True, True)
    assert isinstance(build(recipe.config["update"], "update"), GradientStep)
