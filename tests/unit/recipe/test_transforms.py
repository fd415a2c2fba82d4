"""Transforms that depend on the data or have a place in the order: built once, refused in one line."""

from pathlib import Path

import pytest
import torch

from helpers.trainings import recipe_of, trained
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.recipe.build import build_transforms
from paribus.recipe.overlays import apply_overlays
from paribus.techniques.relabel import ExampleMaps, MapLabels, ReLabel

HERE = DeviceContext(torch.device("cpu"))


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("maps") / "maps.safetensors"
    file.write_bytes(ExampleMaps()(recipe_of("experiment=smoke").data(HERE)))
    return file


def by_hand(maps: Path, *before: str) -> list[str]:
    return [*before, f"+transforms.r={{_target_: paribus.techniques.relabel.ReLabel, maps: '{maps}'}}"]


def test_a_transform_is_made_for_the_data_where_there_are_steps(maps: Path) -> None:
    recipe = recipe_of("experiment=smoke", *by_hand(maps))
    data = recipe.data(HERE)
    assert isinstance(build_transforms(recipe, data, HERE)["r"], MapLabels)
    maps_gone = recipe_of("experiment=smoke", *by_hand(maps))
    assert isinstance(build_transforms(maps_gone, data, HERE, trains=False)["r"], ReLabel), "prediction reads no file"


def test_what_replaces_targets_after_what_mixed_them_is_refused(maps: Path) -> None:
    mixed = "+transforms.c={_target_: paribus.techniques.cutmix.CutMix}"
    recipe = recipe_of("experiment=smoke", *by_hand(maps, mixed))
    with pytest.raises(ConfigError, match=r"^transforms\.r: it replaces the targets that transforms\.c has mixed"):
        build_transforms(recipe, recipe.data(HERE), HERE)
    erased = "+transforms.c={_target_: paribus.techniques.erasing.RandomErasing}"
    recipe = recipe_of("experiment=smoke", *by_hand(maps, erased))
    assert list(build_transforms(recipe, recipe.data(HERE), HERE)) == ["c", "r"]


def test_an_overlay_may_come_first_and_others_keep_their_order() -> None:
    cfg = {"transforms": {"b": 1, "a": 2, "c": 3}, "overlays": {"x": {"first": ["transforms.c", "transforms.nowhere"]}}}
    assert list(apply_overlays(cfg, ["x"])["transforms"]) == ["c", "b", "a"]
    plain = {**cfg, "overlays": {"x": {}}}
    assert list(apply_overlays(plain, ["x"])["transforms"]) == ["b", "a", "c"]


def test_a_run_that_is_done_is_evaluated_and_known_without_its_map(maps: Path, tmp_path: Path) -> None:
    from paribus.cli.main import dispatch

    own = tmp_path / "maps.safetensors"
    own.write_bytes(maps.read_bytes())
    words = ("experiment=smoke", "steps=4ba", f"transforms.relabel.maps={own}")
    result = trained(tmp_path / "runs", *words, techniques=("relabel",))
    own.unlink()
    assert dispatch(["eval", str(result.folder), "-q"]) == 0
    with pytest.raises(ConfigError, match=r"maps: .*No such file or directory; a run cannot start without it"):
        recipe_of(*words, f"paths.runs={tmp_path / 'others'}", techniques=("relabel",))
    again = recipe_of(*words, f"paths.runs={tmp_path / 'runs'}", techniques=("relabel",))
    assert again.id == result.folder.name.rpartition("-")[2]


def test_a_map_that_is_demanded_need_not_be_there_to_know_the_run(maps: Path, tmp_path: Path) -> None:
    words = ("experiment=smoke", f"transforms.relabel.maps={maps}")
    there = recipe_of(*words, techniques=("relabel",))
    checksum = there.config["transforms"]["relabel"]["maps_sha256"]
    demanded = f"transforms.relabel.maps_sha256='{checksum}'"
    later = recipe_of("experiment=smoke", "transforms.relabel.maps=later", demanded, techniques=("relabel",))
    assert later.id == there.id
    with pytest.raises(ConfigError, match=r"^transforms\.relabel\.maps: later: No such file or directory; paribus"):
        build_transforms(later, later.data(HERE), HERE)
