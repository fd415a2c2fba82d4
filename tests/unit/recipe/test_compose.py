"""What Hydra would take without a word: a group chosen twice, and techniques chosen in an experiment's file."""

from pathlib import Path

import pytest

from paribus.core.errors import ConfigError
from paribus.recipe.compose import check_choices, check_experiment, compose_config
from paribus.recipe.configs import find_config_folder

GROUPS = sorted(path.name for path in find_config_folder().iterdir() if path.is_dir())
BOTH = "technique=[cutmix,adamp] takes all of them"


@pytest.mark.parametrize("group", GROUPS)
def test_any_group_chosen_twice_is_refused_with_both_choices(group: str) -> None:
    assert len(GROUPS) > 8
    for first, second in (("a", "b"), ("a", "a")):
        with pytest.raises(ConfigError, match=f"^{group}: chosen twice, as {first} and as {second}; "):
            check_choices(["seed=1", f"{group}={first}", "steps=1ba", f"{group}={second}"])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["technique=cutmix", "technique=adamp"], BOTH),
        (["technique=cutmix", "+technique=adamp"], BOTH),
        (["technique=cutmix", "technique@_global_=adamp"], BOTH),
        (["technique=[cutmix]", "technique=[cutmix, adamp]"], BOTH),
        (["technique=cutmix", "~technique"], "choose one"),
        (["technique=cutmix,mixup", "technique=adamp"], "choose one"),
        (["tracker=events", "tracker=console"], "tracker=[events,console] takes all of them"),
        (["data=digits", "data=cifar10"], "choose one"),
        (["hydra/launcher=basic", "hydra/launcher=joblib"], "choose one"),
        (["model@method.teacher=a", "model@method.teacher=b"], "model@method.teacher: chosen twice"),
        (["technique=[cutmix,cutmix]"], "cutmix is listed twice"),
        (["technique=[adamp],['cutmix', cutmix]"], "cutmix is listed twice"),
        (["tracker=[events,console,events]"], "events is listed twice"),
    ],
)
def test_the_line_says_what_to_write(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_choices(overrides)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["technique=cutmix,adamp", "data=digits", "optimizer=sgd"],  # a sweep
        ["technique=[cutmix,adamp],[cutmix]"],
        ["seed=1", "seed=2", "optimizer.lr=1", "optimizer.lr=2"],  # the last counts, as a script that appends expects
        ["model=pit", "+model@method.teacher=resnet50"],  # two places
        ["~transforms.cutmix", "schedule.milestones=[0.5,0.5]"],
    ],
)
def test_what_hydra_means_by_it_goes_through(overrides: list[str]) -> None:
    check_choices(overrides)


def test_composing_refuses_and_groups_of_the_users_own_count(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="technique: chosen twice"):
        compose_config(["technique=cutmix", "technique=adamp"])
    check_choices(["lights=on", "lights=off"])
    (tmp_path / "lights").mkdir()
    with pytest.raises(ConfigError, match="lights: chosen twice"):
        check_choices(["lights=on", "lights=off"], [tmp_path])


def test_an_experiment_that_chooses_techniques_is_refused_not_overruled(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    for name, defaults in {
        "plain": "[override /data: digits, _self_]",
        "own": "[override /technique: cutmix]",
        "two": "[{override /technique: [cutmix, mixup]}]",
        "heir": "[own, _self_]",
        "loop": "[loop]",
    }.items():
        (tmp_path / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\ndefaults: {defaults}\n")
    for fine in ("plain", "loop", "smoke", "nowhere"):
        check_experiment([f"experiment={fine}", "technique=adamp"], [tmp_path])
    check_experiment(["technique=adamp"], [tmp_path])
    for name, techniques in (("own", "cutmix"), ("heir", "cutmix"), ("two", "cutmix,mixup")):
        for rest in ([], ["technique=adamp"]):
            with pytest.raises(ConfigError) as refused:
                check_experiment([f"experiment={name}", *rest], [tmp_path])
            assert str(refused.value).startswith(f"experiment={name}: its file chooses technique: ")
            assert f"give technique=[{techniques}]" in str(refused.value)
