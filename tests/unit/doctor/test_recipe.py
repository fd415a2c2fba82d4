"""`paribus doctor experiment=NAME`: exit 1 if something that the recipe needs is missing, with what to do about it."""

from dataclasses import replace
from pathlib import Path

import pytest

from paribus.cli.main import dispatch
from paribus.core.protocols import Spec
from paribus.doctor import machine, recipe
from paribus.doctor.recipe import check_recipe, compose_recipe
from paribus.recipe.configs import list_options


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARIBUS_DATA", raising=False)
    monkeypatch.setattr(recipe.torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}


def test_a_recipe_with_all_it_needs_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["doctor", "experiment=quickstart", "technique=cutmix"]) == 0
    told = lines(capsys)
    assert all(line.startswith("ok ") for line in told.values())
    assert "train 1,437" in told["data"]
    assert "MACs" in told["network"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "name", "found", "remedy"),
    [
        (["experiment=cifar10_small"], "data", "cifar10 is not there", "data.download=true"),
        (["experiment=quickstart", "data=tiny_imagenet"], "data", "is not there", "paribus data prepare tiny_imagenet"),
        (["experiment=quickstart", "data=folder", "data.form=folder"], "data", "no tree of images", "train/ and val/"),
        (["experiment=quickstart", "runtime.device=cuda"], "device", "no CUDA device", "runtime.device=cpu"),
    ],
)
def test_what_is_missing_is_told_with_the_remedy_and_is_1(
    words: list[str], name: str, found: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["doctor", *words]) == 1
    line = lines(capsys)[name]
    assert line.startswith("missing ")
    assert found in line
    assert remedy in line.partition("; ")[2]


@pytest.mark.parametrize(
    "words", [["experiment=nonsense"], ["experiment=smoke", "seed=x"], ["smoke"], ["gpu", "seed=1"]]
)
def test_a_recipe_that_is_wrong_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["doctor", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_tree_that_is_not_packed_yet_says_how_to_pack_it(tmp_path: Path) -> None:
    (tmp_path / "data" / "imagenette2-160" / "train").mkdir(parents=True)
    data, spec, images = recipe.check_recipe_data(compose_recipe(["experiment=imagenette_resnet50"]).data)
    assert data.state == "missing"
    assert "paribus data prepare imagenette" in data.remedy
    assert "--download" not in data.remedy
    assert (spec, images) == (Spec(10, 3, 128, 128), 9469)


def test_a_download_that_was_asked_for_is_not_begun(tmp_path: Path) -> None:
    for overrides in (["experiment=cifar10_small"], ["experiment=quickstart", "data=imagenette"]):
        composed = compose_recipe([*overrides, "data.download=true"])
        assert recipe.check_recipe_data(composed.data)[0].state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_space_is_that_of_its_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = compose_recipe(["experiment=quickstart"])
    usage = machine.shutil.disk_usage(".")
    for free, state in ((10**4, "missing"), (10**8, "warning"), (10**11, "ok")):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        (space,) = [f for f in check_recipe(composed) if f.name == "space"]
        assert space.state == state


def test_days_without_a_gpu_are_told() -> None:
    large = compose_recipe(["experiment=cifar10_resnet18"])
    assert "days" in recipe.explain_time(large, 50_000, 555_000_000)
    assert recipe.explain_time(replace(large, steps="1ep"), 50_000, 555_000_000) == ""
    assert recipe.explain_time(large, 0, 555_000_000) == ""


def test_the_device_needs_a_compiler_where_the_recipe_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = compose_recipe(["experiment=smoke", "runtime.compile=true"])
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    for has_cuda, tool in ((False, "g++"), (True, "gcc")):
        found = recipe.check_device(compiled, has_cuda)
        assert found.state == "missing"
        assert tool in found.found


@pytest.mark.parametrize("experiment", list_options("experiment"))
def test_every_recipe_can_be_asked_for(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "check_network", lambda recipe, spec: (machine.Finding("network", "ok", ""), 10**6, 0))
    findings = check_recipe(compose_recipe([f"experiment={experiment}"]))
    # what an input is, is known of the files alone, which are not here
    unread = {"adult_mlp", "compas_mlp", "biased_mnist", "biased_mnist_small", "cluttered_mnist_small"}
    unread |= {"digit_tiles_small", "domain_digits_small", "domain_digits_classifier", "celeba_stargan"}
    expected = {"data", "device", "space"} if experiment in unread else {"data", "device", "network", "space"}
    assert expected <= {f.name for f in findings}
    assert all(f.remedy for f in findings if f.state == "missing")


def test_a_place_for_what_is_downloaded_is_looked_at(tmp_path: Path) -> None:
    for root, state in ((tmp_path / "new", "ok"), (Path("/proc/x"), "missing")):
        recipe = compose_recipe(["experiment=cifar10_resnet18", "data.download=true", f"data.root={root}"])
        found = next(f for f in check_recipe(recipe) if f.name == "data")
        assert found.state == state
        assert str(root) in found.found
    assert not (tmp_path / "new").exists()


def test_a_missing_compiler_is_a_line_of_the_recipe_and_no_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no compiler"))
    (found,) = [f for f in check_recipe(compose_recipe(["experiment=smoke"])) if f.name == "compiler"]
    assert found.state == "warning"
    assert found.remedy
    assert not list(recwarn)
