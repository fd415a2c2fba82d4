"""Parts of a recipe that would draw the same numbers are refused, and the order of augmentations is in the id."""

import pytest

from helpers.trainings import build_recipe, composed
from paribus.core.errors import ConfigError
from paribus.recipe.recipe import Recipe

JITTER = "{_target_: paribus.data.colour.ColorJitter, brightness: 0.5}"
RAND = "{_target_: paribus.data.randaugment.RandAugment, ops: 2, magnitude: 9}"
HOLE = "{_target_: paribus.techniques.cutout.Cutout, length: 8}"


def made(*overrides: str) -> Recipe:
    return build_recipe(composed("experiment=smoke", *overrides), [])


def augmented(**by_name: str) -> str:
    return f"+data.augment={{{', '.join(f'{name}: {one}' for name, one in by_name.items())}}}"


def test_a_second_hole_would_be_the_first_one_again() -> None:
    with pytest.raises(ConfigError, match=r"transforms\.second: is a Cutout as transforms\.first is, and draws"):
        made(f"+transforms.first={HOLE}", f"+transforms.second={HOLE}")
    made(f"+transforms.first={HOLE}", "+transforms.second=null")
    erasing = "{_target_: paribus.techniques.erasing.RandomErasing}"
    assert list(made(f"+transforms.first={HOLE}", f"+transforms.second={erasing}").transforms) == ["first", "second"]


@pytest.mark.parametrize("name", ["flip", "crop_and_flip", "resized_crop"])
def test_an_augmentation_does_not_share_the_numbers_of_the_crop(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.augment\.{name}: loaders draw their crops and flips"):
        made(augmented(**{name: JITTER}))


def test_augmentations_in_another_order_are_another_run() -> None:
    one, other = made(augmented(jitter=JITTER, rand=RAND)), made(augmented(rand=RAND, jitter=JITTER))
    assert one.id != other.id
    assert "augment_order" not in one.computed["data"], "recorded ids: the alphabet's order is not written out"
    assert other.computed["data"]["augment_order"] == ["rand", "jitter"]
