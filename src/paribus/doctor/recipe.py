"""`paribus doctor experiment=NAME ...`: whether this machine has what a recipe needs. Nothing is trained or fetched."""

import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from paribus.core.cores import count_cores
from paribus.core.duration import in_steps
from paribus.core.errors import ConfigError, explain_exception
from paribus.core.formatting import format_count, format_si
from paribus.core.protocols import DeviceContext, Spec, StartsFromFile, WrapsNetwork
from paribus.data.cifar import Cifar
from paribus.data.images import ImageSet
from paribus.data.packs.format import default_folder
from paribus.data.packs.open import open_pack
from paribus.data.trees.manifest import Manifest, load_manifest
from paribus.data.trees.names import FOLDER
from paribus.data.trees.tree import find_tree
from paribus.doctor.finding import Finding
from paribus.doctor.machine import can_write, check_compiler, check_space
from paribus.models.macs import count_macs
from paribus.recipe.compose import compose_config
from paribus.recipe.files import missing_files, missing_start_files
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.runs.describe import COUNTING_LIMIT

COPIES = 3  # of each parameter in a checkpoint: the weight and, at most, two moments of the optimizer
SLOW_DAYS = 2.0  # of training without a GPU from which on it is told
CORE_FLOPS = 2e10  # that convolutions reach on a core here, to a factor of three


def compose_recipe(overrides: Sequence[str], config_dir: Path | None = None) -> Recipe:
    """config_dir: a folder of the user's own configs. Raises ConfigError where the recipe itself is wrong."""
    config = compose_config(list(overrides), config_dir)
    return build_recipe(config, list(config.get("overlays") or {}))


def check_recipe(recipe: Recipe) -> list[Finding]:
    """What the recipe needs, one finding each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="data on a CPU is fastest with a C compiler")  # check_kernels says it
        data, spec, images = check_recipe_data(recipe.data)
    findings = [data, *check_kernels(), *check_files(recipe), check_device(recipe, torch.cuda.is_available())]
    if spec is None:
        return [*findings, check_space("space", recipe.folder.parent)]
    network, parameters, macs = check_network(recipe, spec)
    findings.append(network)
    if macs and not torch.cuda.is_available() and (slow := explain_time(recipe, images, macs)):
        findings.append(Finding("time", "warning", slow, "train it on a GPU, or try it with fewer steps=N"))
    needed = COPIES * 4 * parameters * (recipe.checkpoints.keep + 1)
    return [*findings, check_space("space", recipe.folder.parent, needed)]


def check_recipe_data(data: Any) -> tuple[Finding, Spec | None, int]:
    """Whether the images are there, their spec and how many there are for training, as far as that is known."""
    try:
        if isinstance(data, ImageSet):
            return check_image_set(data)
        if getattr(data, "download", False):
            return check_download(data, "fetched where it is missing"), None, 0
        sets = data(DeviceContext(torch.device("cpu")))
    except ConfigError as error:
        if isinstance(data, Cifar):
            spec = Spec(10 if data.name == "cifar10" else 100, 3, data.size, data.size)
            return missing("data", error), spec, data.train_size or 50_000
        return missing("data", error), None, 0
    except Exception as error:  # of a dataset class of the user's
        return Finding("data", "missing", explain_exception(error), "see the class of data"), None, 0
    sizes = ", ".join(f"{name} {n:,}" for name, n in sets.sizes.items())
    return Finding("data", "ok", f"{type(data).__name__}: {sizes} images"), sets.spec, sets.sizes["train"]


def check_image_set(data: ImageSet) -> tuple[Finding, Spec | None, int]:
    """The spec and the number of images are known from the manifest where the images are not there."""
    known = None if data.name == FOLDER else load_manifest(data.name)
    spec = Spec(len(known.classes), 3, data.size, data.size) if known else None
    images = data.train_size or (known.train if known and known.train else 0)
    try:
        found = find_images(data, known)
        state = check_download(data, found) if found.startswith("fetched") else Finding("data", "ok", found)
        return state, spec, images
    except ConfigError as error:
        return missing("data", error), spec, images


def find_images(data: ImageSet, known: Manifest | None) -> str:
    """The pack, or the tree, whose files are not listed: ImageNet's are more than a million. Raises ConfigError."""
    root = find_root(data)
    if data.form == "folder":
        return f"tree {find_tree(root, known)}"
    folder = (
        Path(data.pack).expanduser() if data.pack else default_folder(root, data.name, data.pack_size, data.channels)
    )
    if not (folder / "pack.json").exists():
        if data.download:
            return "fetched and packed where it is missing"
        find_tree(root, known)  # a missing tree says how to fetch it, which comes before packing it
    pack = open_pack(folder, data.name, data.pack_size, root, data.channels)
    return f"{folder}: {', '.join(f'{split} {len(s.ids):,}' for split, s in pack.splits.items())} images"


def find_root(data: Any) -> Path:
    return Path(data.root or os.environ.get("PARIBUS_DATA") or "data").expanduser()


def check_download(data: Any, what: str) -> Finding:
    """Whether there is a place for what data.download=true fetches. How much it is, only the download knows."""
    if can_write(root := find_root(data)):
        return Finding("data", "ok", f"data.download=true: {what}, into {root}")
    return Finding(
        "data",
        "missing",
        f"{root}, where data.download=true puts images, cannot be written",
        "choose another with data.root=DIR",
    )


def check_kernels() -> list[Finding]:
    """Said where a compiler is missing alone: results are the same without it."""
    found = check_compiler()
    return [] if found.state == "ok" else [replace(found, state="warning")]


def missing(name: str, error: ConfigError) -> Finding:
    """A message says what was found and, after its last semicolon, what to do."""
    found, _, remedy = str(error).rpartition("; ")
    return Finding(name, "missing", found or remedy, remedy if found else "")


def check_files(recipe: Recipe) -> list[Finding]:
    """Files that the network starts from."""
    return [
        Finding("file", "missing", f"{key}: {path} is not there", f"put it there, or give another with {key}=PATH")
        for key, path in missing_start_files(recipe).items()
    ]


def check_device(recipe: Recipe, has_cuda: bool) -> Finding:
    """The device that the recipe asks for, and the compiler for it."""
    wanted, compiles = recipe.runtime.device, bool(recipe.runtime.compile)
    if wanted.startswith("cuda") and not has_cuda:
        return Finding("device", "missing", f"{wanted}, and torch finds no CUDA device", "runtime.device=cpu")
    device = "cuda" if has_cuda and wanted != "cpu" else "cpu"
    tools = ("gcc", "cc", "clang") if device == "cuda" else ("g++", "clang++")
    if compiles and not any(shutil.which(tool) for tool in tools) and not os.environ.get("CXX"):
        return Finding("device", "missing", f"runtime.compile needs one of {', '.join(tools)}", "runtime.compile=false")
    precision = getattr(recipe.update, "precision", "fp32")
    if device == "cpu" and precision in ("bf16", "fp16"):
        return Finding(
            "device", "warning", f"cpu, where {precision} is slow", "update.precision=fp32 is faster, but another run"
        )
    return Finding("device", "ok", f"{device}, {precision}")


def check_network(recipe: Recipe, spec: Spec) -> tuple[Finding, int, int]:
    """Whether the network can be made, its parameters, and the multiply-accumulates of an image; 0 where not known."""
    factory = recipe.model
    if missing_files(factory, "model") and isinstance(factory, StartsFromFile):
        factory = factory.without_file()
    if isinstance(recipe.method, WrapsNetwork):
        factory = recipe.method.network_factory(factory)
    try:
        model = factory(spec)
    except Exception as error:  # of a network of the user's, or one whose weights are fetched
        return Finding("network", "missing", explain_exception(error), "see model in the recipe"), 0, 0
    parameters = sum(p.numel() for p in model.parameters())
    try:
        macs = count_macs(model, spec, COUNTING_LIMIT)
    except Exception:  # one that needs values, or too large to count in seconds
        return Finding("network", "ok", format_count(parameters, "parameter")), parameters, 0
    found = f"{format_si(parameters)} parameters, {format_si(macs)} MACs an image at {spec.height} pixels"
    return Finding("network", "ok", found), parameters, macs


def explain_time(recipe: Recipe, images: int, macs: int) -> str:
    """That training would take days without a GPU; "" where it would not, or nobody knows."""
    per_epoch = images // recipe.batch_size
    if not per_epoch:
        return ""
    flops = 6.0 * macs * recipe.batch_size * in_steps(recipe.steps, per_epoch)  # forward, and backward twice
    days = flops / (CORE_FLOPS * count_cores()) / 86_400
    return f"no GPU, and {format_si(flops)}FLOP: some {days:,.0f} days on these cores" if days > SLOW_DAYS else ""
