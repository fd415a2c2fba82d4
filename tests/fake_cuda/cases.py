"""Which runs are tried on the fake device: every recipe meant for a GPU with every technique that fits it, and some
settings.

A case is written as recipe, techniques and overrides: "cifar10_resnet18 cutmix+sgdp update.precision=bf16".
"""

import atexit
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from fake_cuda.stand_ins import blank_data
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.recipe.compose import compose_config
from paribus.recipe.configs import find_config_folder, list_options
from paribus.recipe.overlays import BASELINE, apply_overlays
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.techniques.relabel import ExampleMaps

_FOR_A_CPU = re.compile(
    r"smoke|quickstart|cifar10_(dcgan_)?small|\w+_mnist_small|digit_tiles_small|domain_digits"
    r"|adult_mlp|compas_mlp|shape_captions"
)


@dataclass(frozen=True)
class Case:
    """overrides: further keys. world: of how many processes this is the first; the others are not there."""

    recipe: str
    techniques: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    world: int = 1

    def __str__(self) -> str:
        world = [f"processes={self.world}"] if self.world > 1 else []
        return " ".join([self.recipe, "+".join(self.techniques) or BASELINE, *self.overrides, *world])


def parse(text: str) -> Case:
    """The case that is written so."""
    recipe, techniques, *rest = text.split(" ")
    worlds = [int(word.partition("=")[2]) for word in rest if word.startswith("processes=")]
    overrides = tuple(word for word in rest if not word.startswith("processes="))
    return Case(recipe, tuple(t for t in techniques.split("+") if t != BASELINE), overrides, *worlds)


def recipe_of(case: Case, *more: str) -> Recipe:
    """The checked recipe. Decoding takes no workers: its pixels are a stand-in's."""
    folder = ["data.workers=0"] if case.recipe.startswith("image") else []
    words = [f"experiment={case.recipe}", f"technique=[{','.join(case.techniques) or BASELINE}]"]
    more = (*more, *_label_maps(words[0], more)) if "relabel" in case.techniques else more
    config = compose_config([*words, *folder, *case.overrides, *more])
    return build_recipe(config, list(case.techniques))


def _label_maps(experiment: str, more: tuple[str, ...]) -> list[str]:
    """The override that names a file of label maps for the stand-in of this recipe's data."""
    recipe = build_recipe(compose_config([experiment, f"technique={BASELINE}", *more]), [])
    with blank_data(train_images=5 * recipe.batch_size):
        content = ExampleMaps()(recipe.data(DeviceContext(torch.device("cpu"))))
    file = Path(tempfile.mkdtemp(prefix="paribus-fake-")) / "maps.safetensors"
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    file.write_bytes(content)
    return [f"transforms.relabel.maps={file}"]


def gpu_recipes() -> list[str]:
    return [name for name in list_options("experiment") if not _FOR_A_CPU.match(name)]


def all_cases() -> list[Case]:
    """Every recipe × technique, then the settings."""
    return [*(case for recipe in gpu_recipes() for case in _with_each_technique(recipe)), *SETTINGS]


# a step of an attack is like any other, and on the fake device each costs as much as a step of training
_CHEAPER: dict[str, tuple[str, ...]] = {"pgd_training": ("method.steps=1",)}


# what these add to a step is the same on every recipe: a second network that sees the bias of one data set, targets
# from a file that is made for the data, or a head that not every network can have
_ON_ONE = dict.fromkeys(("rebias", "rubi", "learned_mixin"), "biased_mnist")
_ON_ONE |= {"relabel": "imagenette_resnet50", "calm": "cifar10_resnet18"}


def _with_each_technique(recipe: str) -> list[Case]:
    """A recipe with each technique that fits. Composed once: 170 times would take half a minute."""
    base = compose_config([f"experiment={recipe}"])
    found = list[Case]()
    for name in list_options("technique"):
        if _ON_ONE.get(name, recipe) != recipe:
            continue
        overlay = yaml.safe_load((find_config_folder() / "technique" / f"{name}.yaml").read_text()) or {}
        # a recipe that mixes already is tried with the technique in its place
        for overrides in ((), ("transforms.mixing=null",)):
            config = _merge(base, overlay)
            if overrides:
                config["transforms"] = {k: v for k, v in config["transforms"].items() if k != "mixing"}
            try:
                apply_overlays(config, [] if name == BASELINE else [name])
            except ConfigError:
                continue
            more = _CHEAPER.get(name, ())
            found.append(Case(recipe, () if name == BASELINE else (name,), (*overrides, *more)))
            break
    return found


def _merge(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    both = {**base, **more}
    return both | {
        k: _merge(base[k], v) for k, v in more.items() if isinstance(v, dict) and isinstance(base.get(k), dict)
    }


_TEACHER = "method.teacher._target_=paribus.models.cifar_resnet.CifarResNet ~method.teacher.name"
_HUE = "+data.augment.c={_target_:paribus.data.colour.ColorJitter,brightness:0.4,saturation:0.4,hue:0.1}"
_RAND = "+data.augment.r={_target_:paribus.data.randaugment.RandAugment,std:0.5,interpolation:bilinear}"

# settings that change what a step does on CUDA, each on a recipe where it is cheap to try
SETTINGS = [
    *(
        parse(f"cifar10_resnet18 {rest}")
        for rest in (
            "baseline update.precision=bf16",
            "baseline update.precision=fp16 runtime.fused=true",
            "baseline update.precision=fp16 update.clip_norm=1.0",
            "baseline update.precision=fp64",
            "baseline runtime.fused=true",
            "baseline runtime.channels_last=false runtime.prefetch=false",
            "baseline ema.decay=0.999",
            "baseline ema.decay=0.999 ema.buffers=latest",
            "cutmix+sgdp ema.decay=0.999 update.precision=bf16 update.clip_norm=1.0 update.accumulate=2",
            "cutmix method=lengths",
            "cutmix transforms.cutmix.per=sample transforms.cutmix.box=timm",
            "cutmix transforms.cutmix.partner=derangement transforms.cutmix.correct_lam=false",
            "cutmix transforms.cutmix.partner=roll",
            "cutmix+cutout processes=2",
            "mixup processes=2",
            "rexnet model=mobile",
            "sgdp optimizer.diagnostics=true",
            "sgdp optimizer.foreach=false",
            f"baseline {_HUE}",
        )
    ),
    *(
        parse(f"imagenette_vit_s {rest}")
        for rest in (
            "adamp optimizer.nesterov=true optimizer.diagnostics=true",
            "pit+adamp+cutmix update.precision=bf16 ema.decay=0.999",
            "baseline runtime.fused=true update.precision=bf16",
            "baseline data.keep=host",
            "baseline data.keep=mapped data.interpolation=bicubic",
            "baseline data.repeats=3",
            f"baseline {_RAND}",
            "cutmix processes=2",
        )
    ),
    parse(f"imagenette_pit_s baseline method=distilled model.distilled=pair {_TEACHER}"),
    parse("imagenet_rexnet cutmix processes=2"),
    # no recipe for a GPU has groups
    parse("smoke_groups cgl"),
    parse("smoke_groups cgl method=fair_hsic"),
    # nor captions
    parse("smoke_captions baseline"),
    parse("smoke_captions pcme"),
    parse("smoke_captions pcme update.precision=bf16"),
    # two networks against each other, with another optimizer and half precision
    parse("smoke_images baseline"),
    parse("smoke_images adamp update.precision=bf16"),
    parse("smoke_translation baseline"),
    parse("smoke_translation stargan"),
]

# what CI tries each time: each recipe and each technique once or more, and the settings; the others are slow tests
FAST_PAIRS = {
    "biased_mnist learned_mixin",
    "biased_mnist rebias",
    "biased_mnist rubi",
    "celeba_stargan baseline",
    "cifar100_pyramidnet200 cutmix",
    "cifar100_resnet18 baseline",
    "cifar10_dcgan fsmr",
    "cifar10_dcgan ggdr",
    "cifar10_resnet18 baseline",
    "cifar10_resnet18 calm",
    "cifar10_resnet18 cutmix",
    "cifar10_resnet18 cutout",
    "cifar10_resnet18 erasing",
    "cifar10_resnet18 mixup",
    "cifar10_resnet18 pgd_training method.steps=1",
    "cifar10_resnet18 sgdp",
    "imagenet100_resnet50 cutmix",
    "imagenet_pit_b adamp",
    "imagenet_pit_s baseline",
    "imagenet_resnet18_adamw adamp",
    "imagenet_resnet18_sgd sgdp",
    "imagenet_resnet50 cutmix",
    "imagenet_resnet50_adamw adamp",
    "imagenet_resnet50_sgd baseline",
    "imagenet_rexnet baseline",
    "imagenette_pit_s baseline",
    "imagenette_resnet50 baseline",
    "imagenette_resnet50 relabel",
    "imagenette_rexnet baseline",
    "imagenette_vit_s pit",
    "imagenette_vit_s pit_pooling",
    "imagenette_vit_s pit_stem",
}
