"""A key as other tools call it is answered with ours, and a value that nobody gave with its key."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.trainings import composed
from paribus.core.errors import ConfigError
from paribus.recipe.compose import compose_config, find_config_flags, find_open_keys
from paribus.recipe.configs import find_config_folder
from paribus.recipe.near_keys import ALIASES, list_keys
from paribus.recipe.recipe import build_recipe, rebuild_recipe


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        build_recipe(compose_config(["experiment=smoke", *overrides]), [])
    return str(caught.value)


WORDS = {
    "lr=0.1": "lr: no such key (did you mean optimizer.lr?)",
    "+lr=0.1": "lr: no such key (did you mean optimizer.lr?)",
    "++lr=0.1": "lr: no such key (did you mean optimizer.lr?)",
    "~lr": "lr: no such key (did you mean optimizer.lr?)",
    "epochs=3": "epochs: no such key (did you mean steps=3ep?)",
    "+epochs=3": "epochs: no such key (did you mean steps=3ep?)",
    "trainer.max_epochs=3": "(did you mean steps=3ep?)",
    "max_steps=500": "(did you mean steps=500ba?)",
    "bs=16": "(did you mean batch_size?)",
    "wd=0.1": "(did you mean optimizer.weight_decay?)",
    "momentun=0.9 optimizer=sgd": "(did you mean optimizer.momentum?)",
    "momentum=0.9": "optimizer.momentum is a key of other choices of optimizer=",
    "device=cpu": "(did you mean runtime.device?)",
    "workers=2": "data.workers is a key of other choices of data=",
    "root=x data=cifar10": "(did you mean data.root?)",
    "gpus=2": "several processes are started by torchrun --nproc-per-node=N",
    "resume=true": "the same command again resumes a run",
    "arch=resnet18": "(did you mean model?)",
    "techniques=cutmix": "(did you mean technique?)",
    "alpha=1 technique=cutmix": "(did you mean transforms.cutmix.alpha?)",
    "transforms.cutmix.alpha=1": "technique=cutmix brings it",
    "transforms.cutmix.alfa=1 technique=cutmix": "no such key (did you mean transforms.cutmix.alpha?)",
    "model.args.foo=3 model=resnet18": "new keys are added with +, as in +model.args.foo=3",
    "optimizer.lrr=3": "optimizer.lrr: no such key (did you mean optimizer.lr",
}


@pytest.mark.parametrize("overrides", WORDS)
def test_a_word_of_another_tool_is_answered_with_ours(overrides: str) -> None:
    said = refusal(*overrides.split())
    assert WORDS[overrides] in said
    assert said.endswith(("shows them all", "brings it", "foo=3"))


def test_the_place_of_a_deep_key_says_more_than_its_last_word() -> None:
    """`weight` alone is the field's word for objective.class_weights."""
    with pytest.raises(ConfigError, match=r"did you mean method\.penalties\.r1\.") as caught:
        build_recipe(compose_config(["experiment=smoke_images", "method.penalties.r1.weight=1"]), [])
    assert "objective" not in str(caught.value)


SIGN = """
import torch
from paribus.core.build import schema

@schema
class Signum:
    lr: float
    weight_decay: float
    decay: str
    momentum: float = 0.9

    def __call__(self, groups):
        return torch.optim.SGD(groups, lr=self.lr)
"""
TECHNIQUE = """# @package _global_
overlays:
  signum:
    swap: {optimizer._target_: {paribus.methods.optimizers.AdamW: my_sign.Signum}}
    packages: [my_sign]
"""


def test_the_keys_of_ones_own_class_that_an_overlay_swaps_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_sign.py").write_text(SIGN)
    (tmp_path / "technique").mkdir()
    (tmp_path / "technique" / "signum.yaml").write_text(TECHNIQUE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def compose(*overrides: str) -> dict[str, Any]:
        return compose_config(["experiment=smoke", "technique=signum", *overrides], tmp_path)

    with pytest.raises(ConfigError) as caught:
        compose("optimizer.momentum=0.5")
    assert str(caught.value) == (
        "optimizer.momentum: the config does not name this key of Signum, which technique=signum puts there; write "
        "+optimizer.momentum=0.5, or name it in technique/signum.yaml, where tune: of study.yaml finds it too"
    )
    with pytest.raises(ConfigError, match=r"^optimizer.nesterov: no such key"):  # Signum has none
        compose("optimizer.nesterov=true")
    with pytest.raises(ConfigError) as caught:
        build_recipe(compose("+optimizer.momentum=0.5", "+optimizer.foo=1"), ["signum"])
    assert str(caught.value).endswith(
        "; betas, eps are left over from AdamW, which technique=signum replaces: declare them in Signum"
    )
    built = build_recipe(compose("+optimizer.momentum=0.5", "~optimizer.betas", "~optimizer.eps"), ["signum"])
    assert built.config["optimizer"]["momentum"] == 0.5


def test_a_technique_that_is_not_there_may_be_ones_own(tmp_path: Path) -> None:
    hint = "; your own are found with --config-dir DIR (in study.yaml and in Python: config_dir)"
    assert refusal("technique=signum").endswith(f"stargan{hint}")
    with pytest.raises(ConfigError, match=r"stargan$"):
        compose_config(["experiment=smoke", "technique=signum"], tmp_path)


def test_every_alias_leads_to_a_key_that_exists() -> None:
    folder = find_config_folder()
    known = {*list_keys(composed()), *(path.name for path in folder.iterdir() if path.is_dir())}
    for path in folder.glob("*/*.yaml"):
        known |= {f"{path.parent.name}.{key}" for key in list_keys(yaml.safe_load(path.read_text()) or {})}
    assert set(ALIASES.values()) <= known
    assert not set(ALIASES) & {key for key in known if "." not in key}


def test_keys_of_a_config_file_are_answered_together() -> None:
    config = {**compose_config(["experiment=smoke"]), "lr": 0.1, "epochs": 3}
    with pytest.raises(ConfigError, match=re.escape("epochs: no such key (did you mean steps=3ep?)")) as caught:
        build_recipe(config, [])
    assert "lr: no such key (did you mean optimizer.lr?)" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("seed=???", "seed"),
        ("data.root=???", "data.root"),
        ("name=???", "name"),
        ("model._target_=???", "model._target_"),
        ("update=???", "update"),
        ("model.widths=[8,???]", "model.widths"),
        ("+transforms.mine=???", "transforms.mine"),
        ("tracker.console._target_=???", "tracker.console._target_"),
        ("runtime.threads=???", "runtime.threads"),
        ("packages=[???]", "packages"),
        ("paths.runs=???", "paths.runs"),
    ],
)
def test_a_value_that_is_yet_to_be_given(override: str, key: str) -> None:
    data = ("data=cifar10",) if key == "data.root" else ()
    assert refusal(*data, override) == f"{key}: missing value (???); give {key}=VALUE"


def test_several_values_and_a_choice_that_are_yet_to_be_given() -> None:
    assert refusal("seed=???", "steps=???").startswith("seed, steps: missing values (???); give seed=VALUE steps=VALUE")
    assert refusal("model=???").startswith("model: missing value (???); give model=NAME, one of cifar_resnet, ")
    objectives = "bce, contrastive, cross_entropy, triplet"
    assert refusal("objective=???") == f"objective: missing value (???); give objective=NAME, one of {objectives}"
    config = {**build_recipe(compose_config(["experiment=smoke"]), []).config, "seed": "???"}
    with pytest.raises(ConfigError, match="seed: missing value"):
        rebuild_recipe(config)


def test_what_an_experiment_leaves_open_is_not_replaced_by_the_default(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nsteps: ???\noptimizer:\n  lr: ???\n")
    chosen = {"experiment": "mine", "technique": ["baseline"], "model": None}
    assert find_open_keys(chosen, [tmp_path], ["seed=1"]) == ["optimizer.lr", "steps"]
    assert find_open_keys(chosen, [tmp_path], ["steps=3ep"]) == ["optimizer.lr"]
    assert find_open_keys(chosen, [tmp_path], ["++steps=3ep", "optimizer=sgd"]) == []
    (tmp_path / "technique").mkdir()
    (tmp_path / "technique" / "short.yaml").write_text("# @package _global_\nsteps: 1ep\n")
    assert find_open_keys({**chosen, "technique": "short"}, [tmp_path], []) == ["optimizer.lr"]


def test_the_flags_of_hydra_that_a_command_needs_again() -> None:
    for flags in (["--config-dir", "a"], ["-cd", "a"], ["--config-dir=a"], ["--config-dir", "a", "-cn", "b"]):
        assert find_config_flags(["seed=1", *flags, "name=x"]) == flags
    assert find_config_flags(["name=--config-dir"]) == []
