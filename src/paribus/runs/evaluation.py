"""`paribus eval`: a trained network evaluated again, on its own data or another, by any evaluators and on any split."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml
from torch import Tensor

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.evaluation import Findings, make_context
from paribus.core.formatting import format_list
from paribus.core.protocols import DataSets, DeviceContext, Predicts
from paribus.data.cifar import Cifar
from paribus.data.images import ImageSet
from paribus.data.loaders.evaluation_files import build_evaluation_of_files
from paribus.data.loaders.preprocessing import find_file_preprocessing
from paribus.data.trees.evaluation_tree import find_class_folders, find_tree_classes
from paribus.engine import distributed
from paribus.engine.distributed import World
from paribus.engine.evaluate import check_method, evaluate
from paribus.engine.runtime import apply_runtime
from paribus.evaluators.confusion import count_confusion
from paribus.evaluators.unmixed_loss import UnmixedLoss
from paribus.recipe.build import (
    build_evaluators,
    explain_build_errors,
    list_needed_splits,
    make_device_context,
    without_split,
)
from paribus.recipe.compose import compose_config
from paribus.recipe.files import fill_evaluators
from paribus.recipe.recipe import Recipe, rebuild_recipe
from paribus.runs.among_classes import predict_among
from paribus.runs.chosen_evaluators import EVALUATORS, choose_evaluators, on_splits
from paribus.runs.saved_run import SavedRun, load_network, load_saved_run, rebuild_with_overrides, with_labels_of

# keys of a data set's config that decide what of an image a network sees
_PREPROCESSING = ("size", "form", "interpolation", "eval_ratio", "channels", "pack_size", "mean", "std")


@dataclass(frozen=True)
class Evaluation:
    """A trained network beside the data it is evaluated on, on this rank's device. other_data: the overrides that say
    which data, () for the run's own where they were."""

    found: SavedRun
    data: DataSets
    network: Any
    evaluators: Mapping[str, Any]
    place: DeviceContext
    other_data: tuple[str, ...]

    def measure(self) -> Findings:
        """The evaluators' metrics and details, over all ranks. Raises ConfigError."""
        context = make_context(self.data, self.place)
        check_method(self.network, self.evaluators, context)
        return evaluate(self.network, self.evaluators, self.data.splits, context)

    def count_confusion(self, split: str) -> Tensor:
        """(classes, classes) int64 on the CPU, over all ranks: rows are true classes. Raises ConfigError."""
        if split not in self.data.splits:
            raise ConfigError(f"--split: found {split}; the data has {format_list(self.data.splits)}")
        self.network.prepare_eval()
        if not isinstance(self.network, Predicts):
            raise ConfigError(f"{type(self.network).__name__} does not predict classes; there is no confusion of them")
        batches, device = self.data.splits[split](self._batch_size()), self.place.device
        return distributed.all_sum(count_confusion(self.network, batches, self.data.spec.classes, device)).cpu()

    def class_names(self) -> tuple[str, ...]:
        """A name for each class that no other has: its readable name where that is enough."""
        kept = self.found.checkpoint
        return name_classes(kept.class_names or self.data.names, kept.class_ids or (), self.data.spec.classes)

    def _batch_size(self) -> int:
        return next((n for e in self.evaluators.values() if (n := getattr(e, "batch_size", None))), 512)


def open_evaluation(
    where: Path,
    overrides: Sequence[str],
    allowed: tuple[str, ...],
    splits: Sequence[str],
    world: World,
    config_dir: Path | None = None,
    tree_classes: bool = False,
) -> Evaluation:
    """where: a run folder, checkpoint or export. overrides: of the keys in `allowed`, of data=NAME and what belongs to
    it, and of evaluators. splits: of the evaluators that have any; () leaves them. config_dir: a folder with the user's
    own configs. tree_classes: predict among the classes alone that have a folder in the tree of data.root. Raises
    ConfigError."""
    named = [o for o in overrides if o.startswith("data=")]
    other_data = [*named, *(o for o in overrides if o.startswith("data."))] if named else []
    chosen_data = other_data or [o for o in overrides if o.startswith(("data.root=", "data.pack="))]
    measured = [o for o in overrides if o.removeprefix("+").partition("=")[0].partition(".")[0] == EVALUATORS]
    others = [o for o in overrides if o not in other_data + measured]
    # which images are read is settled once it is known that the checkpoint is of the run's own recipe
    found = load_saved_run(where, [o for o in others if not o.startswith(("data.root=", "data.on_error="))], allowed)
    recipe = found.recipe
    if other_data:
        recipe = rebuild_recipe({**recipe.config, "data": _compose_data(found, other_data, config_dir)})
    top = _find_class_folders(found, recipe, overrides)
    if tree_classes and (top is None or not found.checkpoint.class_ids):
        raise ConfigError("--tree-classes: needs data.root=TREE with class folders and no train/, and known classes")
    if not other_data:
        kept = others if top is None else [o for o in others if not o.startswith("data.root=")]
        recipe = rebuild_with_overrides(recipe.config, kept, allowed)
    if measured or splits:
        chosen = choose_evaluators(recipe.config[EVALUATORS], measured, config_dir)
        recipe = fill_evaluators(rebuild_recipe({**recipe.config, EVALUATORS: on_splits(chosen, splits)}))
    if (top is not None or _is_for_evaluation(recipe)) and not splits:
        recipe = _with_only_val(recipe)
    if any(o.startswith("data") for o in overrides):  # whose training images are not what the network was trained on
        recipe = replace(
            recipe, evaluators={k: e for k, e in recipe.evaluators.items() if not isinstance(e, UnmixedLoss)}
        )
    device = apply_runtime(recipe.runtime, world)
    distributed.init_process_group(world, device, recipe.runtime.timeout)
    place = make_device_context(recipe, device, world)
    with explain_build_errors("data"):
        data = recipe.data(place) if top is None else _read_class_folders(found, top, recipe, place)
        as_read, data = data, with_labels_of(found, data)
        if not named and data is as_read and place.rank == 0:  # the checksum has the labels in it
            _warn_of_other_images(found, recipe, data.checksum)
        _check_inputs(found, data)
        evaluators = build_evaluators(recipe, data)
        network = load_network(found, recipe, data, place)
        if top is not None:
            network = predict_among(find_tree_classes(top, data.class_ids), network, data, place, tree_classes)
    return Evaluation(found, data, network, evaluators, place, tuple(chosen_data))


def name_classes(names: Sequence[str], ids: Sequence[str], classes: int) -> tuple[str, ...]:
    """A name for each class that no other has: its readable name, with its id where two have the same name, else its
    number.

    >>> name_classes(("crane", "crane"), ("n01", "n02"), 2), name_classes((), (), 2)
    (('crane (n01)', 'crane (n02)'), ('0', '1'))
    """
    for chosen in (tuple(names), tuple(f"{n} ({i})" for n, i in zip(names, ids, strict=False)), tuple(ids)):
        if len(chosen) == len(set(chosen)) == classes:
            return chosen
    return tuple(f"{name} ({k})" for k, name in enumerate(names)) or tuple(map(str, range(classes)))


def _find_class_folders(found: SavedRun, recipe: Recipe, overrides: Sequence[str]) -> Path | None:
    """Where the tree of data.root=TREE has its class folders, if it is for evaluation alone."""
    given = [o.partition("=")[2] for o in overrides if o.startswith("data.root=")]
    if not given or not isinstance(root := yaml.safe_load(given[-1]), str):
        return None
    path = Path(root).expanduser()
    if _is_for_evaluation(recipe):
        return None
    if isinstance(recipe.data, ImageSet | Cifar) and recipe.data.is_at(path):
        return None
    return find_class_folders(path, found.checkpoint.class_ids or ())


def _read_class_folders(found: SavedRun, top: Path, recipe: Recipe, place: DeviceContext) -> DataSets:
    skip = getattr(recipe.data, "on_error", "raise") == "skip"
    preprocessing = find_file_preprocessing(recipe.data)
    return build_evaluation_of_files(top, found.checkpoint.class_ids or (), preprocessing, place, skip)


def _is_for_evaluation(recipe: Recipe) -> bool:
    """Whether its data has no training images, as data=cifar10_c."""
    return getattr(recipe.data, "evaluation_only", False)


def _with_only_val(recipe: Recipe) -> Recipe:
    """The recipe without evaluators of other splits, which such a tree has not. What an evaluator needs another split
    for is left out of it, if it can do without, with a warning."""
    kept: dict[str, Any] = {}
    for name, evaluator in recipe.evaluators.items():
        splits = getattr(evaluator, "splits", None)
        if evaluator is None or (splits is not None and "val" not in splits):
            continue
        found: Any = evaluator if splits is None else replace(cast(Any, evaluator), splits=("val",))
        for key, split in list_needed_splits(found).items():
            if split != "val" and found is not None:
                found = without_split(found, key)
                what = "it is left out" if found is None else f"evaluated with {key}=null"
                print(f"warning: evaluators.{name}.{key}: the tree has no {split}; {what}", file=sys.stderr)
        if found is not None:
            kept[name] = found
    return replace(recipe, evaluators=kept)


def _compose_data(found: SavedRun, overrides: Sequence[str], config_dir: Path | None) -> dict[str, Any]:
    """The config of another data set, whose images are prepared as the run's own were, for the keys that both have and
    that are not overridden."""
    config, own = compose_config(list(overrides), config_dir)["data"], found.recipe.config["data"]
    given = {o.lstrip("+").partition("=")[0].removeprefix("data.") for o in overrides}
    kept = {key: own[key] for key in _PREPROCESSING if key in own}
    if kept.get("form") == "folder":
        kept.pop("pack_size", None)  # says nothing there
        if "pack" in given:
            del kept["form"]
    inputs = found.summary.get("inputs", {})
    kept |= {key: inputs[key] for key in ("mean", "std") if key in inputs}  # as they were, where the config has null
    return {**config, **{key: value for key, value in kept.items() if key in config and key not in given}}


def _warn_of_other_images(found: SavedRun, recipe: Recipe, checksum: str) -> None:
    """checksum: "" of data without training images."""
    if found.export is not None or not checksum:  # an export does not say which images it is from
        return
    segments = runfolder.read_segments(found.folder)
    recorded = found.summary.get("data_checksum") or (segments[0].get("data_checksum") if segments else None)
    if recorded in (None, checksum):
        return
    packed = getattr(recipe.data, "form", None) == "packed"
    what = "its pack is not the one" if packed else "its training images are not those"
    more = "of training and validation images" if packed else "which does not cover validation images"
    print(
        f"warning: data: {what} that {found.name} was trained on (the checksum, {more}, was {recorded[:12]} and is "
        f"{checksum[:12]})",
        file=sys.stderr,
    )


def _check_inputs(found: SavedRun, data: DataSets) -> None:
    """A network may be built for its data's size, so another size would mean another network."""
    trained = {key: found.summary.get("inputs", {}).get(key) for key in asdict(data.spec)}
    if None not in trained.values() and trained != asdict(data.spec):
        old, new = (
            f"{s['channels']}×{s['height']}×{s['width']} images of {s['classes']} classes"
            for s in (trained, asdict(data.spec))
        )
        raise ConfigError(f"data: found {new}; the network was trained on {old}")
