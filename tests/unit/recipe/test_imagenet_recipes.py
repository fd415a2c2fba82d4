"""The recipes on ImageNet and its subsets: each composes as every command of its header, builds the published network,
has the rates its source gives, and trains a few steps at a tiny size."""

import functools
import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.image_trees import tree
from helpers.trainings import composed, recipe_of
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Predicts, Spec
from paribus.engine.distributed import World
from paribus.models import timm_adapter
from paribus.models.groups import decay_groups
from paribus.models.macs import count_macs
from paribus.recipe.build import build_method, make_device_context
from paribus.recipe.configs import find_config_folder, list_options
from paribus.recipe.recipe import Recipe
from paribus.techniques.cutmix import CutMix

RECIPES = [name for name in list_options("experiment") if name.startswith("imagenet")]
IMAGENET = Spec(1000, 3, 224, 224)


def header(name: str) -> str:
    lines = (find_config_folder() / "experiment" / f"{name}.yaml").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("#"))


def commands(name: str) -> list[list[str]]:
    """The overrides of every command in a header; what follows four spaces is a remark."""
    found = re.findall(r"^#   paribus train (.*?)(?:    .*)?$", header(name), flags=re.MULTILINE)
    return [shlex.split(command) for command in found]


@functools.cache
def plain(name: str) -> Recipe:
    return recipe_of(f"experiment={name}")


def recipe_for(overrides: list[str]) -> Recipe:
    chosen = [o.partition("=")[2].strip("[]").split(",") for o in overrides if o.startswith("technique=")]
    rest = [o for o in overrides if not o.startswith("technique=")]
    return recipe_of(*rest, techniques=tuple(chosen[0] if chosen else ()))


def test_the_recipes_are_those_asked_for() -> None:
    assert set(RECIPES) >= {
        *("imagenette_resnet50", "imagenette_rexnet", "imagenette_pit_s", "imagenette_vit_s", "imagenet100_resnet50"),
        *("imagenet_resnet50", "imagenet_rexnet", "imagenet_pit_s", "imagenet_pit_b"),
        *(f"imagenet_resnet{depth}_{optimizer}" for depth in (18, 50) for optimizer in ("adamw", "sgd")),
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_header_names_source_comparison_and_whether_anyone_has_run_it(name: str) -> None:
    text = header(name)
    for part in ("Source: ", "To be compared with", "run it here"):
        assert part in text, part
    assert "arXiv" in text or "as imagenet_pit_s" in text
    assert "Deviations: " in text or name == "imagenette_resnet50"  # which follows no paper


@pytest.mark.parametrize("name", RECIPES)
def test_every_command_of_a_header_composes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = tmp_path / "weights"
    fetched.write_bytes(b"as if fetched")  # a teacher's checksum is in the id, and there may be no network here
    monkeypatch.setattr(timm_adapter, "_fetch_weights", lambda name: fetched)
    for overrides in commands(name):
        assert f"experiment={name}" in overrides
        recipe = recipe_for(overrides)
        assert recipe.name == name
    assert commands(name)


@pytest.mark.parametrize(
    ("family", "parameters", "gmacs"),
    [  # as published, to the digits given: torchvision's table for ResNets, the authors' for the others
        ("resnet18", 11.69e6, 1.81),
        ("resnet50", 25.56e6, 4.09),
        ("rexnet", 4.8e6, 0.40),
        ("vit_s", 22.1e6, 4.6),
        ("pit_s", 23.5e6, 2.9),
        ("pit_b", 73.8e6, 12.5),
    ],
)
def test_the_networks_are_the_published_ones(family: str, parameters: float, gmacs: float) -> None:
    """At 1,000 classes and 224 pixels, whatever the recipe's data: within 0.5 % (rounding) and 1.5 % of the MACs."""
    for name in (name for name in RECIPES if f"_{family}" in name):
        recipe = plain(name)
        with torch.device("meta"):
            model = recipe.model(IMAGENET)
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.005), name
        assert count_macs(model, IMAGENET) == pytest.approx(gmacs * 1e9, rel=0.015), name


RATES = {  # the source's rate for so many images
    "imagenette_resnet50": (0.1, 256),
    "imagenette_rexnet": (0.5, 512),
    "imagenette_pit_s": (5e-4, 512),
    "imagenette_vit_s": (5e-4, 512),
    "imagenet100_resnet50": (0.1, 256),
    "imagenet_resnet50": (0.1, 256),
    "imagenet_rexnet": (0.5, 512),
    "imagenet_pit_s": (5e-4, 512),
    "imagenet_pit_b": (5e-4, 512),
    "imagenet_resnet18_adamw": (2e-3, 1024),
    "imagenet_resnet50_adamw": (2e-3, 1024),
    "imagenet_resnet18_sgd": (0.1, 256),
    "imagenet_resnet50_sgd": (0.1, 256),
}


def rates(recipe: Recipe) -> list[float]:
    """The rate of the first step of each epoch, and of the last step of all, for ten steps an epoch."""
    epochs = int(recipe.steps.removesuffix("ep"))
    steps = [*range(0, epochs * 10, 10), epochs * 10 - 1]
    return [recipe.optimizer.lr * recipe.schedule(Progress(s, epochs * 10, 0, 10)) for s in steps]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", RECIPES)
def test_rates_are_the_sources_scaled_to_the_batch(name: str) -> None:
    recipe = plain(name)
    rate, images = RATES[name]
    assert recipe.optimizer.lr == pytest.approx(rate * recipe.batch_size / images)  # type: ignore[attr-defined]
    found = rates(recipe)
    if name in ("imagenet_resnet50", "imagenet100_resnet50"):  # a tenth every 75 epochs
        assert [found[e] for e in (0, 74, 75, 149, 150, 224, 225, 299)] == pytest.approx(
            [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4]
        )
    elif name.startswith("imagenet_pit"):
        warm = 10 if name == "imagenet_pit_b" else 5
        assert found[0] == found[1] == pytest.approx(1e-6)  # DeiT's script is an epoch late
        assert found[2] == pytest.approx(1e-6 + (1e-3 - 1e-6) / warm)
        assert max(found) == found[warm + 1] < 1e-3
        assert found[-1] == pytest.approx(1e-5, rel=2e-2)
    elif "it_s" in name:
        assert found[0] == pytest.approx(1e-6 + (1.25e-4 - 1e-6) / 50)  # after one of fifty steps
        assert found[-1] == pytest.approx(1e-5, rel=1e-3)
    else:
        assert max(found) == found[5] == pytest.approx(recipe.optimizer.lr)  # type: ignore[attr-defined]
        assert found[0] < found[1] < found[5]
        assert found[-1] < 1e-4 * found[5]


def no_decay(recipe: Recipe) -> set[str]:
    with torch.device("meta"):
        model = recipe.model(IMAGENET)
    return {name for group in decay_groups(model, recipe.optimizer.decay) if not group.decays for name in group.names}


def test_what_decays_is_what_the_authors_let_decay() -> None:
    for name in ("imagenet_resnet50", "imagenet_resnet18_adamw", "imagenet_resnet50_sgd"):
        assert no_decay(plain(name)) == set()
    recipe = plain("imagenet_rexnet")
    assert all(re.search(r"norm|bias", name) for name in no_decay(recipe))
    recipe = plain("imagenet_pit_b")
    exempt = no_decay(recipe)
    assert {"position_map", "class_tokens", "norm.weight", "stem.bias"} <= exempt
    with torch.device("meta"):
        matrices = {n for n, p in recipe.model(IMAGENET).named_parameters() if p.ndim > 1}
    assert exempt & matrices == {"position_map", "class_tokens"}
    assert (recipe.optimizer.betas, recipe.optimizer.eps) == ((0.9, 0.999), 1e-8)  # type: ignore[attr-defined]


def test_the_recipe_of_deit_is_whole_and_in_its_order() -> None:
    for name, repeats in (("imagenet_pit_s", 1), ("imagenet_pit_b", 3)):
        recipe = plain(name)
        assert list(recipe.transforms) == ["erasing", "mixing"]  # pixels are erased before images are mixed
        config = composed(f"experiment={name}")
        assert config["data"]["repeats"] == repeats
        assert (config["data"]["size"], config["data"]["interpolation"]) == (224, "bicubic")
        assert [config["transforms"]["mixing"][part]["alpha"] for part in ("first", "second")] == [0.8, 1.0]
        assert config["objective"]["smoothing"] == 0.1
        assert config["model"]["drop_path"] == 0.1
        assert config["ema"]["decay"] is None  # what DeiT's script evaluates is the network itself


def test_a_second_mixing_is_refused_and_cutmix_alone_is_one_override_away() -> None:
    with pytest.raises(ConfigError, match=r"technique=cutmix does not fit.*transforms\.mixing=null"):
        recipe_of("experiment=imagenet_pit_s", techniques=("cutmix",))
    recipe = recipe_of("experiment=imagenet_pit_s", "transforms.mixing=null", techniques=("cutmix",))
    assert isinstance([t for t in recipe.transforms.values() if t][-1], CutMix)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that put a generated tree of few, small images in the place of a recipe's own."""
    root = tree(tmp_path_factory.mktemp("images"), classes=4, train=8, val=2, ending=".jpg")
    return [
        *("data.name=folder", f"data.root='{root}'", "data.form=folder", "data.workers=0", "data.size=32"),
        "batch_size=8",
    ]


def trains(recipe: Recipe) -> None:
    """Two steps of this recipe on a CPU, far enough into it that the rate is high."""
    place = make_device_context(recipe, torch.device("cpu"), World())
    data = recipe.data(place)
    method, loader = build_method(recipe, data, place), data.loader(recipe.batch_size, 0)
    model: nn.Module = method.model  # type: ignore[attr-defined]
    before = [p.detach().clone() for p in model.parameters()]
    for step in range(2):
        metrics = method.train_step(loader.batch(step), Progress(100 + step, 3000, 0, loader.steps_per_epoch))
        assert torch.isfinite(torch.as_tensor(metrics["train/loss"]))
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    method.prepare_eval()
    (first, *_) = data.splits["val"](8)
    assert isinstance(method, Predicts)
    assert torch.isfinite(method.predict(first.inputs)).all()


@pytest.mark.parametrize("name", RECIPES)
def test_it_trains_a_few_steps_at_a_tiny_size(name: str, images: list[str]) -> None:
    trains(recipe_for([*commands(name)[0], *images]))


def test_pit_s_is_distilled_a_few_steps_at_a_tiny_size(images: list[str]) -> None:
    (overrides,) = (c for c in commands("imagenet_pit_s") if "method=distilled" in c)
    teacher = "+method.teacher={_target_: paribus.models.convnet.ConvNet, widths: [8], depth: 1}"
    trains(recipe_for([*overrides, *images, "~method.teacher", teacher]))
