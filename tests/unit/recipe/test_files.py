"""What a run starts from is known by its content: the same bytes are the same run wherever they lie, others another."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers import start_files
from helpers.start_files import WAYS, export
from helpers.studies import written
from helpers.trainings import composed, recipe_of, trained
from paribus.core import content
from paribus.core.content import hash_file, iterate_files
from paribus.core.errors import ConfigError
from paribus.interop.weight_files import hash_weights
from paribus.models.convnet import ConvNet
from paribus.models.exported import Exported, SizedNetwork, save
from paribus.recipe.arms import build_plan
from paribus.recipe.identity import computed_part, hash_recipe
from paribus.recipe.overlays import apply_overlays, get_value, with_value
from paribus.recipe.recipe import rebuild_recipe

ways = pytest.mark.parametrize("way", WAYS)


@ways
def test_the_id_is_of_the_bytes_and_not_of_the_path(way: str, tmp_path: Path) -> None:
    write, overrides, key = WAYS[way]
    file = write(tmp_path / "a.safetensors", seed=0)
    recipe = recipe_of(*overrides(file))
    assert get_value(recipe.config, f"{key}_sha256") == hash_file(file)
    (tmp_path / "elsewhere").mkdir()
    for path in tmp_path.glob("a.*"):
        shutil.copyfile(path, tmp_path / "elsewhere" / path.name)
    moved = recipe_of(*overrides(tmp_path / "elsewhere" / "a.safetensors"))
    assert moved.config != recipe.config
    assert moved.id == recipe.id
    assert str(tmp_path) not in str(recipe.computed)

    write(file, seed=1)  # overwritten
    assert recipe_of(*overrides(file)).id != recipe.id
    assert rebuild_recipe(recipe.config).id == recipe.id, "a recorded config needs no file"
    file.unlink()
    assert rebuild_recipe(recipe.config).id == recipe.id
    with pytest.raises(ConfigError, match=rf"^{key}: .*a\.safetensors: No such file or directory; a run cannot start"):
        recipe_of(*overrides(file))


@ways
def test_a_checksum_by_hand_demands_that_file(way: str, tmp_path: Path) -> None:
    write, overrides, key = WAYS[way]
    file = write(tmp_path / "a.safetensors", seed=0)
    demanded = f"++{key}_sha256='{hash_file(file)}'"
    assert recipe_of(*overrides(file), demanded).id == recipe_of(*overrides(file)).id
    was = hash_file(file)
    write(file, seed=1)
    with pytest.raises(ConfigError, match=rf"^{key}: .*has the sha256 {hash_file(file)}, and the recipe demands {was}"):
        recipe_of(*overrides(file), demanded)
    with pytest.raises(ConfigError, match=rf"{key}_sha256: found 'abc'"):
        recipe_of(*overrides(file), f"++{key}_sha256='abc'")


def test_the_key_that_gives_weights_is_in_the_id_only_where_it_is_set(tmp_path: Path) -> None:
    plain_recipe = recipe_of("experiment=smoke")
    assert recipe_of("experiment=smoke", "init_strict=false").id == plain_recipe.id  # decides what is refused, no more
    earlier = {k: v for k, v in plain_recipe.config.items() if not k.startswith("init_")}
    assert rebuild_recipe(earlier).id == hash_recipe(computed_part(earlier)) == plain_recipe.id
    named = WAYS["the recipe's own key"][1](start_files.plain(tmp_path / "a.safetensors"))
    assert recipe_of(*named).id != recipe_of(*named, "init_from=null").id


@pytest.mark.parametrize("way", ["an export", "timm", "one's own class"])
def test_starting_weights_are_named_once(way: str, tmp_path: Path) -> None:
    write, overrides, key = WAYS[way]
    file = write(tmp_path / "a.safetensors", seed=0)
    with pytest.raises(ConfigError, match=f"^init_from: {key} names starting weights too; leave one of them out"):
        recipe_of(*overrides(file), f"init_from='{file}'")


# ids of these configs under paribus before it knew of checksums (commit c2f2cce)
RECORDED: dict[str, str] = {
    "an export": "3db984cebc50",
    "a teacher's export": "e6c470fc22b8",
    "a teacher's weights": "161974dc5647",
    "timm's own word": "79dbcb4e46e8",
}


@pytest.mark.parametrize("way", RECORDED)
def test_a_config_recorded_without_a_checksum_keeps_its_id(way: str) -> None:
    overrides = WAYS[way][1](Path("weights/a.safetensors"))
    recipe = rebuild_recipe(apply_overlays(composed("tracker=events", *overrides), []))
    assert recipe.id == RECORDED[way]
    assert rebuild_recipe(recipe.config).id == RECORDED[way]
    assert hash_recipe(computed_part(recipe.config)) == RECORDED[way]


def test_negative_control_only_a_whole_checksum_takes_the_paths_place(tmp_path: Path) -> None:
    _, overrides, key = WAYS["one's own class"]
    config = recipe_of(*overrides(start_files.plain(tmp_path / "a.safetensors"))).config
    others = [with_value(config, key, "b"), with_value(config, f"{key}_sha256", None)]
    same, other = (hash_recipe(computed_part(c)) for c in others)
    assert same == hash_recipe(computed_part(config)) != other


def test_of_an_export_the_network_counts_too(tmp_path: Path) -> None:
    """The .json decides what is trained as much as the weights do: dropout has no weights."""
    _, overrides, _ = WAYS["an export"]
    file = export(tmp_path / "a.safetensors")
    first = recipe_of(*overrides(file))
    assert get_value(first.config, "model.network.dropout") == 0.0
    description = file.with_suffix(".json")
    text = description.read_text()
    description.write_text(text.replace('"dropout": 0.0', '"dropout": 0.5'))
    assert recipe_of(*overrides(file)).id != first.id
    description.write_text(text.replace('"format": 1', '"format": 1, "metrics": {}'))
    assert recipe_of(*overrides(file)).id == first.id
    with pytest.raises(ConfigError, match=r"^model: network: found other than what .*a\.json says"):
        recipe_of(*overrides(file), "+model.network={_target_: paribus.models.convnet.ConvNet}")


def test_an_export_of_a_run_that_started_from_an_export_stands_alone(tmp_path: Path) -> None:
    start = Exported(path=str(export(tmp_path / "a.safetensors"))).completed()
    spec = start_files.SPEC
    weights = start(spec).state_dict()
    second, description = save(tmp_path / "b.safetensors", start, spec, weights, {})
    assert "ConvNet" in description.read_text()
    assert "a.safetensors" not in description.read_text()
    assert isinstance(Exported(path=str(second)).completed().network, ConvNet)
    from dataclasses import replace

    _, other = save(tmp_path / "c.safetensors", start, replace(spec, height=16), weights, {})
    assert "SizedNetwork" in other.read_text(), "the network was made for another height than the data has"
    assert isinstance(start.without_file(), SizedNetwork)


def test_a_plan_reads_each_file_once_and_its_cells_demand_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return hash_file(path)

    monkeypatch.setattr(content, "hash_file", counted)
    _, overrides, key = WAYS["one's own class"]
    one, two = (start_files.plain(tmp_path / f"{n}.safetensors", seed=n) for n in (1, 2))
    named = [o for o in overrides(one) if "a.safetensors" not in o and not o.startswith("+model.weights")]
    by_seed = f"+model.weights='{tmp_path}/${{seed}}.safetensors'"
    study = written(
        tmp_path / "study",
        recipe=named,
        arms={"a": [f"+model.weights='{one}'"], "b": [f"+model.weights='{two}'"], "c": [by_seed, "optimizer.lr=1.0"]},
        seeds=[1, 2],
    )
    plan = build_plan(study)
    assert sorted(read) == [one, two]
    demanded = {cell.name: [o for o in cell.overrides if "sha256" in o] for cell in plan.cells}
    checksums = {n: f"++{key}_sha256='{hash_file(file)}'" for n, file in ((1, one), (2, two))}
    assert demanded == {
        "a/s1": [checksums[1]], "a/s2": [checksums[1]], "b/s1": [checksums[2]], "b/s2": [checksums[2]],
        "c/s1": [checksums[1]], "c/s2": [checksums[2]],
    }  # fmt: skip
    cell = plan.cells[0]
    assert recipe_of(*cell.overrides).id == cell.id
    start_files.plain(one, seed=3)
    with pytest.raises(ConfigError, match="the recipe demands"):
        recipe_of(*cell.overrides)


def test_the_cells_of_an_arm_start_from_a_run_and_demand_it(tmp_path: Path) -> None:
    start = trained(tmp_path / "runs", "experiment=smoke", "steps=4ba")
    arms = {"scratch": [], "tuned": [f"init_from='{start.folder}'"]}
    plan = build_plan(written(tmp_path / "study", recipe=["experiment=smoke", "steps=4ba"], arms=arms, seeds=[1, 2]))
    checksum = hash_weights(start.folder / "checkpoints" / "step_00000004.pt")
    for cell in plan.cells:
        assert (f"++init_from_sha256='{checksum}'" in cell.overrides) == (cell.arm == "tuned")
        assert recipe_of(*cell.overrides).id == cell.id
    assert plan.recipes["tuned"]["init_from_sha256"] == checksum
    assert "init_from" not in str(plan.recipes["scratch"])
    again = trained(tmp_path / "runs", *plan.cells[2].overrides)
    assert "init_from" in (again.folder / "provenance.json").read_text()
    start_files.plain(tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="the recipe demands"):
        recipe_of(*plan.cells[2].overrides, f"init_from='{tmp_path}/other.safetensors'")


def test_every_class_with_a_checksum_names_a_file_and_no_other_recipe_has_any() -> None:
    assert list(iterate_files(recipe_of("experiment=smoke"))) == []
    assert "init_from" in recipe_of("experiment=smoke").config
    recipe: Any = rebuild_recipe(apply_overlays(composed("experiment=smoke", "method=distilled"), []))
    assert [file.key for file in iterate_files(recipe)] == ["method.teacher.weights"]
