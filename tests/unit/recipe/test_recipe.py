"""A recipe from its config and back: its id, and overlays that swap and expect."""

import pytest

from helpers.trainings import composed, recipe_of
from paribus.core.build import build, to_config
from paribus.core.errors import ConfigError
from paribus.recipe.build import _with_new_verb
from paribus.recipe.compose import check_choices
from paribus.recipe.identity import computed_part, hash_recipe
from paribus.recipe.overlays import apply_overlays, overlay_rule
from paribus.recipe.recipe import rebuild_recipe


def test_what_is_described_can_be_built_again() -> None:
    recipe = recipe_of("experiment=smoke", "seed=3", techniques=("cutmix",))
    again = rebuild_recipe(recipe.config)
    assert again.config == recipe.config
    assert again.id == recipe.id
    assert to_config(build(recipe.config)["model"]) == recipe.config["model"]


def test_an_integer_where_a_float_belongs_is_the_same_recipe() -> None:
    assert recipe_of("optimizer.lr=1").id == recipe_of("optimizer.lr=1.0").id


def test_the_id_is_of_what_is_computed_and_of_nothing_else() -> None:
    base = recipe_of("experiment=smoke").id
    for same in ("runtime.threads=2", "paths.runs=elsewhere", "every.log=1ba", "tracker=console", "name=other"):
        assert recipe_of("experiment=smoke", same).id == base, same
    for other in ("seed=1", "optimizer.lr=0.02", "steps=61ba", "batch_size=16", "update.precision=bf16", "data.n=255"):
        assert recipe_of("experiment=smoke", other).id != base, other
    assert recipe_of("experiment=smoke", techniques=("cutmix",)).id != base
    assert recipe_of("data=cifar10").id == recipe_of("data=cifar10", "data.root=x", "data.download=true").id


def test_an_evaluator_of_ours_moves_no_id_and_one_of_a_user_does() -> None:
    base = recipe_of("experiment=smoke")
    more = "+evaluators.more._target_=paribus.evaluators.unmixed_loss.UnmixedLoss"
    assert recipe_of("experiment=smoke", more).id == base.id
    assert recipe_of("experiment=smoke", "evaluators=[accuracy]").id == base.id
    users = {**base.config["evaluators"], "mine": {"_target_": "my_package.Mine"}}
    assert hash_recipe(computed_part({**base.config, "evaluators": users})) != base.id
    assert recipe_of("experiment=smoke", "evaluators.accuracy.batch_size=7").id != base.id  # in recorded ids


def test_the_id_of_smoke_is_this_forever() -> None:
    # if this changes, recorded rows no longer belong to their recipe: undo it
    assert recipe_of("experiment=smoke").id == "45ef5a568f27"


RULE = {"swap": {"optimizer.kind": {"old": "new"}}, "expect": {"model.kind": ["net", "vit"]}, "fits": "it fits old."}


def test_overlays_swap_and_expect_or_refuse() -> None:
    cfg = {"optimizer": {"kind": "old"}, "model": {"kind": "vit"}, "overlays": {"x": RULE}}
    assert apply_overlays(cfg, ["x"]) == {"optimizer": {"kind": "new"}, "model": {"kind": "vit"}, "techniques": ["x"]}
    assert cfg["optimizer"] == {"kind": "old"}
    for wrong in ({"optimizer": {"kind": "sgd"}}, {"model": {"kind": "resnet"}}, {"model": {}}):
        with pytest.raises(ConfigError, match=r"technique=x does not fit this recipe: .*; it fits old."):
            apply_overlays({**cfg, **wrong}, ["x"])
    with pytest.raises(ConfigError, match=r"no overlays\.y"):
        apply_overlays(cfg, ["y"])
    assert apply_overlays({"overlays": {}}, ["baseline"]) == {"techniques": []}


def test_two_techniques_for_one_place_are_told_by_their_names() -> None:
    other = {**RULE, "swap": {"optimizer.kind": {"old": "newer"}}}
    cfg = {"optimizer": {"kind": "old"}, "model": {"kind": "vit"}, "overlays": {"x": RULE, "y": other}}
    with pytest.raises(
        ConfigError, match=r"technique=y does not go with technique=x, which puts new into optimizer\.kind"
    ):
        apply_overlays(cfg, ["x", "y"])


@pytest.mark.parametrize("techniques", ["pcme", "[pcme]", "[adamp,pcme]"])
def test_a_choice_for_a_place_that_a_technique_fills_is_refused(techniques: str) -> None:
    words = ["experiment=smoke_captions", f"technique={techniques}"]
    check_choices([*words, "objective=null"])
    check_choices(["experiment=smoke_captions", "technique=adamp", "objective=contrastive"])
    with pytest.raises(
        ConfigError, match="technique=pcme takes the place of objective, so objective=contrastive would"
    ):
        check_choices([*words, "objective=contrastive"])


def test_settings_for_the_battery_stand_under_check_and_are_read_where_they_stood() -> None:
    new = overlay_rule("x", {**RULE, "check": {"neutral": {"a": 0}, "small": {"b": 1}}})
    assert overlay_rule("x", {**RULE, "neutral": {"a": 0}, "small": {"b": 1}}) == new
    assert overlay_rule("x", RULE).check.neutral == {}
    for wrong in ({"neutral": {"a": 0}, "check": {"neutral": {"a": 1}}}, {"check": {"tiny": {}}}, {"check": 1}):
        with pytest.raises(ConfigError, match=r"overlays\.x\.check"):
            overlay_rule("x", {**RULE, **wrong})


def test_a_technique_that_a_later_override_switches_off_is_refused() -> None:
    cfg = composed("experiment=smoke", "technique=[cutmix]", "transforms.cutmix=null")
    with pytest.raises(ConfigError, match="technique=cutmix does not fit"):
        apply_overlays(cfg, ["cutmix"])


def test_a_users_method_with_the_old_verb_goes_on_working() -> None:
    class Old:
        ready = False

        def settle(self) -> None:
            self.ready = True

    with pytest.warns(DeprecationWarning, match="Old.settle is now called prepare_eval"):
        method = _with_new_verb(Old())  # type: ignore[arg-type]
    method.prepare_eval()
    assert method.ready  # type: ignore[attr-defined]
