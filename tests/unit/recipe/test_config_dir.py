"""A user's own configs beside the shipped ones, and packages of the current folder."""

import os
import sys
from pathlib import Path

import pytest

from helpers.own_configs import written_lab
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError
from paribus.recipe.compose import compose_config
from paribus.recipe.configs import find_config_folder, find_hidden, list_options
from paribus.recipe.packages import check_packages
from paribus.recipe.recipe import build_recipe
from paribus.recipe.smoke import build_small, find_smoke_recipe


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return written_lab(tmp_path, f"lab_{abs(hash(tmp_path))}")


@pytest.mark.parametrize(
    ("group", "name", "headline"),
    [("technique", "tint", "Tints images."), ("model", "flat", "A flat network."), ("experiment", "own", "Ours.")],
)
def test_they_are_listed_beside_ours(configs: Path, group: str, name: str, headline: str) -> None:
    ours, both = list_options(group), list_options(group, configs)
    assert both == {**ours, name: headline}
    assert list(both) == sorted(both)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for reads in (lambda f: list_options("model", f), lambda f: compose_config([], f)):
        with pytest.raises(ConfigError, match=r"--config-dir .*nowhere: there is no such folder"):
            reads(tmp_path / "nowhere")


def test_they_are_composed_with_ours_from_any_folder_name(configs: Path) -> None:
    assert " " in str(configs)
    recipe = build_recipe(compose_config(["experiment=own", "technique=tint", "tracker=events"], configs), ["tint"])
    assert recipe.title == "own-tint-s0"
    (package,) = recipe.packages  # which the overlay names
    with_more = compose_config(["experiment=own", "technique=tint", "packages=[helpers]"], configs)
    assert build_recipe(with_more, ["tint"]).packages == ("helpers", package)


def test_an_unknown_one_is_refused_with_theirs_and_ours(configs: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"technique=tin: there is no such technique \(did you mean tint\?\).*cutmix, .*tint"
    ):
        compose_config(["technique=tin"], configs)


def test_a_config_that_a_shipped_one_hides_is_refused_unless_it_is_the_same(configs: Path) -> None:
    own, shipped = configs / "technique" / "cutmix.yaml", find_config_folder() / "technique" / "cutmix.yaml"
    own.write_bytes(shipped.read_bytes())
    assert find_hidden("technique", configs) == []
    compose_config(["technique=cutmix"], configs)
    own.write_text("# @package _global_\n# mine\n")
    assert find_hidden("technique", configs) == ["cutmix"]
    for choice in ("technique=cutmix", "technique=[tint,cutmix]"):
        with pytest.raises(ConfigError, match=r"technique=cutmix: paribus has one of that name, which would be taken"):
            compose_config([choice], configs)
    assert list_options("technique", configs)["cutmix"].startswith("CutMix"), "the one that is taken is listed"


def test_hydras_own_search_path_beside_it_is_refused(configs: Path) -> None:
    search = f"hydra.searchpath=['file://{configs}']"
    assert compose_config([search, "technique=tint"])["overlays"].keys() == {"tint"}
    with pytest.raises(ConfigError, match=r"hydra\.searchpath: given beside --config-dir"):
        compose_config([search, "technique=tint"], configs)


def test_a_package_that_is_not_there_is_told_where_it_may_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"no Python package of that name.*PYTHONPATH=DIR.*pip install -e DIR"
    ) as told:
        check_packages(["no_such_lab"])
    assert str(tmp_path) in str(told.value)


@pytest.mark.parametrize("place", ["json.py", "json/__init__.py"])
def test_a_package_that_another_one_hides_is_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_packages(["json"]) == ("json",)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("")
    with pytest.raises(ConfigError, match=rf"packages: found json, which Python imports from .*, and not {place}"):
        check_packages(["json"])


def test_the_current_folder_is_importable_while_a_command_runs_and_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[list[str]] = []
    monkeypatch.setattr("paribus.cli.list.list_options", lambda *a: seen.append(list(sys.path)) or {"a": ""})
    before = list(sys.path)
    assert dispatch(["list", "models"]) == 0
    assert seen[0] == [*before, os.getcwd()]
    assert sys.path == before


def test_the_smoke_recipe_that_fits_is_found(configs: Path) -> None:
    assert find_smoke_recipe(("tint",), (), configs) == ("experiment=smoke", "optimizer=adamw")
    assert find_smoke_recipe(("rexnet",))[0] == "experiment=smoke_mobile"
    given = ("experiment=own", "batch_size=16")
    assert find_smoke_recipe(("tint",), given, configs) == given
    assert build_small(given, ("tint",), configs).batch_size == 16


def test_without_a_recipe_that_fits_the_reason_is_told_once_if_it_is_one(configs: Path) -> None:
    with pytest.raises(ConfigError, match=r"technique=adamp\+sgdp: fits none of the smoke recipes; give one"):
        find_smoke_recipe(("adamp", "sgdp"))
    overlay = configs / "technique" / "tint.yaml"
    overlay.write_text(overlay.read_text().replace(".Tint", ".Tont"))
    with pytest.raises(ConfigError, match=r"^transforms\.tint\._target_: .* has no Tont"):
        find_smoke_recipe(("tint",), (), configs)
