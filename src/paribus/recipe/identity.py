"""What a recipe's id is made of: the part of its config that decides what is computed. Needs no torch.

Two tables keep ids stable while paribus grows. Classes that have moved are hashed under their first name
(core/class_paths.py). Keys that came later are left out of the hash at the value that gives the earlier behaviour, so
that a recorded run and the same run today have one id. A changed meaning of an existing key is a new key, hashed only
where the feature is on; `PROTOCOL` does not rise for it.
"""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

from paribus.core.class_paths import to_recorded_names

PROTOCOL = 1  # the first thing hashed into every id; raising it would orphan every recorded run

# Not part of what is computed. Everything else in the config is hashed into the run's id.
NOT_COMPUTED = ("name", "paths", "tracker", "runtime", "every", "checkpoints", "packages", "techniques")
NOT_COMPUTED_OF_EVALUATORS = ("unmixed",)  # adds a metric and nothing else
NOT_COMPUTED_OF_DATA = ("root", "download", "pack", "keep", "workers")  # where data lie, and who reads them

# Keys that came after runs were recorded: dotted config path -> the value at which the key is left out of the hash.
# `*` stands for any one key (`transforms.*.NAME`). Later changes add their lines here; no line is ever removed.
LATER_KEYS: Mapping[str, Any] = MappingProxyType({"data.augment": {}, "ema.warmup": False, "ema.buffers": "latest"})

# Later keys whose default is another than the value above: class -> {key: what a recorded config without it did}.
BEFORE_KEYS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"paribus.methods.ema.Ema": {"warmup": False, "buffers": "latest"}}
)

# Mappings whose other keys mean nothing where a switch is off, and are not hashed then: path -> (switch, off).
SWITCHES: Mapping[str, tuple[str, Any]] = MappingProxyType({"ema": ("decay", None)})


def computed_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is computed by a complete config (every default written out): without paths, trackers, device or cadence."""
    core = to_recorded_names({key: value for key, value in config.items() if key not in NOT_COMPUTED})
    core["data"] = {key: value for key, value in core["data"].items() if key not in NOT_COMPUTED_OF_DATA}
    core["evaluators"] = {k: v for k, v in core["evaluators"].items() if k not in NOT_COMPUTED_OF_EVALUATORS}
    for key, (switch, off) in SWITCHES.items():
        if isinstance(core.get(key), Mapping) and core[key].get(switch, off) is off:
            core[key] = {k: v for k, v in core[key].items() if k in ("_target_", switch)}
    for path, neutral in LATER_KEYS.items():
        core = _drop_key(core, path.split("."), to_recorded_names(neutral))
    # the order of transforms is part of the recipe, the order of all other keys is not
    core["transforms"] = [[key, value] for key, value in core["transforms"].items() if value is not None]
    return {"protocol": PROTOCOL, **core}


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


def _is_same(value: Any, neutral: Any) -> bool:
    """Equal in type too: False is not 0."""
    return type(value) is type(neutral) and value == neutral
