"""What a recipe's id is made of: the part of its config that decides what is computed. Needs no torch.

Tables keep ids stable while paribus grows. Classes that have moved are hashed under their first name
(core/class_paths.py). Keys that came later are left out of the hash at the value that gives the earlier behaviour, so
that a recorded run and the same run today have one id. A changed meaning of an existing key is a new key, hashed only
where the feature is on; `PROTOCOL` does not rise for it.

A file whose content decides a result is hashed by its checksum, wherever it lies (core/content.py): beside NAME_sha256
the path in NAME is left out. Runs recorded before there were checksums are hashed with the path.
"""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

from paribus.core.class_paths import to_recorded_names
from paribus.core.content import drop_hashed_paths

PROTOCOL = 1  # the first thing hashed into every id; raising it would orphan every recorded run

# Not part of what is computed. Everything else in the config is hashed into the run's id.
# `init_strict` only decides what is refused: weights that are taken either way give the same.
NOT_COMPUTED = ("name", "paths", "tracker", "runtime", "every", "checkpoints", "packages", "techniques", "init_strict")
# An evaluator adds metrics and changes no step, so it is not part of what is computed; but recorded ids have the first
# of ours in them, and any of a user's package. The names are those whose `NAME: null` is left out as well.
EVALUATORS, HASHED_EVALUATOR = "paribus.evaluators.", "paribus.evaluators.accuracy.Accuracy"
NOT_COMPUTED_OF_EVALUATORS = (
    "unmixed",
    "attack",
    "calibration",
    "corruptions",
    "fid",
    "fid_inception",
    "in_between",
    "localisation",
    "mechanism",
    "occlusion",
    "ood",
    "per_class",
    "samples",
)
NOT_COMPUTED_OF_DATA = ("root", "download", "pack", "keep", "workers")  # where data lie, and who reads them

# Keys that came after runs were recorded: dotted config path -> the value at which the key is left out of the hash.
# `*` stands for any one key (`transforms.*.NAME`). Later changes add their lines here; no line is ever removed.
LATER_KEYS: Mapping[str, Any] = MappingProxyType(
    {
        "data.augment": {},
        "ema.warmup": False,
        "ema.buffers": "latest",
        "data.sampling": "shuffle",
        "objective.class_weights": None,
        "init_from": None,
        "init_from_sha256": None,
    }
)

# Later keys whose default is another than the value above: class -> {key: what a recorded config without it did}.
BEFORE_KEYS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"paribus.methods.ema.Ema": {"warmup": False, "buffers": "latest"}}
)

# Mappings whose other keys mean nothing where a switch is off, and are not hashed then: path -> (switch, off).
SWITCHES: Mapping[str, tuple[str, Any]] = MappingProxyType({"ema": ("decay", None)})

# The same for fields of a class that may stand anywhere in a config: class, under its recorded name -> field -> value.
LATER_FIELDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paribus.evaluators.translation.TranslatedImages": {"grid": 8},
        "paribus.exported.Exported": {"path_sha256": None, "network": None, "inputs": None},
        "paribus.data.images.ImageSet": {"channels": 3},
        "paribus.data.synthetic.Synthetic": {"groups": 0, "group_share": 0.8, "annotated": 1.0},
        "paribus.data.wrapped.FromDataset": {"channels": 3},
        "paribus.methods.distilled.Distilled": {"weights_sha256": None},
        "paribus.models.vit.ViT": {"match": "macs"},
        "paribus.techniques.pit.Pooling": {"stride": 2},
        "paribus.models.timm_adapter.Timm": {"weights": None, "weights_sha256": None},
        "paribus.models.timm_adapter.TimmPretrained": {"weights_sha256": None},
    }
)


def computed_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is computed by a complete config (every default written out): without paths, trackers, device or cadence."""
    core = to_recorded_names({key: value for key, value in config.items() if key not in NOT_COMPUTED})
    core["data"] = {key: value for key, value in core["data"].items() if key not in NOT_COMPUTED_OF_DATA}
    if isinstance(core.get("evaluators"), Mapping):
        core["evaluators"] = {k: v for k, v in core["evaluators"].items() if _is_hashed(k, v)}
    for key, (switch, off) in SWITCHES.items():
        if isinstance(core.get(key), Mapping) and core[key].get(switch, off) is off:
            core[key] = {k: v for k, v in core[key].items() if k in ("_target_", switch)}
    for path, neutral in LATER_KEYS.items():
        core = _drop_key(core, path.split("."), to_recorded_names(neutral))
    core = drop_hashed_paths(_drop_later_fields(core))
    # the order of transforms and of augmentations is part of the recipe, the order of all other keys is not; that of
    # augmentations came later, and is left out where it is the alphabet's
    order = list(core["data"].get("augment") or ())
    if order != sorted(order):
        core["data"]["augment_order"] = order
    core["transforms"] = [[key, value] for key, value in core["transforms"].items() if value is not None]
    return {"protocol": PROTOCOL, **core}


def _is_hashed(name: str, evaluator: Any) -> bool:
    if not isinstance(evaluator, Mapping):
        return name not in NOT_COMPUTED_OF_EVALUATORS
    target = str(evaluator.get("_target_"))
    return target == HASHED_EVALUATOR or not target.startswith(EVALUATORS)


def fill_in_earlier(config: Any) -> Any:
    """A recorded config with the keys that came after it, at the values that do what was done then."""
    if isinstance(config, list | tuple):
        return [fill_in_earlier(item) for item in cast(list[Any], config)]
    if not isinstance(config, Mapping):
        return config
    node = cast(Mapping[str, Any], config)
    return {**BEFORE_KEYS.get(str(node.get("_target_")), {}), **{k: fill_in_earlier(v) for k, v in node.items()}}


def hash_recipe(computed: Mapping[str, Any]) -> str:
    """12 hex digits of a hash of what is computed."""
    text = json.dumps(computed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _drop_key(node: Any, path: list[str], neutral: Any) -> Any:
    """A copy without the key at this path, wherever it has the neutral value."""
    if not isinstance(node, Mapping):
        return node
    first, *rest = path
    if rest:
        return {k: _drop_key(v, rest, neutral) if first in (k, "*") else v for k, v in node.items()}
    return {k: v for k, v in node.items() if first not in (k, "*") or not _is_same(v, neutral)}


def _drop_later_fields(node: Any) -> Any:
    """A copy without the fields of LATER_FIELDS that have their neutral values, at any depth."""
    if isinstance(node, list | tuple):
        return [_drop_later_fields(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    later = LATER_FIELDS.get(str(node.get("_target_")), {})
    return {k: _drop_later_fields(v) for k, v in node.items() if k not in later or not _is_same(v, later[k])}


def _is_same(value: Any, neutral: Any) -> bool:
    """Equal in type too: False is not 0."""
    return type(value) is type(neutral) and value == neutral
