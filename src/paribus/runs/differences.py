"""What differs between runs: the keys of their configs that have several values. Needs no torch.

A config.yaml of a run is a few hundred lines, of which most are those of the run beside it. So it is read section by
section (a top-level key and what is below it), and equal sections are read once: 200 runs take as long as a few.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Config = Mapping[str, Any]  # dotted key -> value

# Not shown as differences: the name of the run's folder says the first, the column `step` the second; the rest says
# where a run lies and who watches it, or is the checksum of a file that another key names.
_NOT_SHOWN = re.compile(r"(name|steps|paths\..*|tracker\..*|.*_sha256)")


def make_reader() -> Callable[[str], dict[str, Any]]:
    """A function that reads a config's text as dotted keys and values, and keeps what it has read of each section.
    It raises ValueError for a text that is no mapping."""
    import yaml

    # libyaml's is ten times as fast, but not in every build
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    known: dict[str, dict[str, Any]] = {}

    def read(text: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for section in re.split(r"^(?=[^\s\-#])", text, flags=re.MULTILINE):
            if section not in known:
                try:
                    content = yaml.load(section, loader)
                except (yaml.YAMLError, RecursionError) as error:
                    raise ValueError("not YAML") from error
                if content is not None and not isinstance(content, dict):
                    raise ValueError("not a mapping")
                known[section] = flatten(content or {})
            found |= known[section]
        return found

    return read


def flatten(node: Mapping[Any, Any], path: str = "") -> dict[str, Any]:
    """
    >>> flatten({"seed": 0, "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}, "augment": {}})
    {'seed': 0, 'optimizer.lr': 0.1, 'optimizer.betas': [0.9, 0.99], 'augment': {}}
    """
    found: dict[str, Any] = {}
    for key, value in node.items():
        where = f"{path}.{key}" if path else str(key)
        found |= flatten(value, where) if isinstance(value, dict) and value else {where: value}
    return found


def find_differences(configs: Sequence[Config]) -> list[str]:
    """The keys in which these configs differ, seed and techniques last, since the names of run folders have them too.

    A key that only some have (the settings of another optimizer) counts if it differs among those; that a thing is
    there at all is said by its class.
    """
    keys = list(dict.fromkeys(key for config in configs for key in config if not _NOT_SHOWN.fullmatch(key)))
    differing = [key for key in keys if _differs(key, configs)]
    if "techniques" in differing:  # which are what puts these there
        differing = [key for key in differing if not re.fullmatch(r"transforms\.[^.]+\._target_", key)]
    last = ("techniques", "seed")
    return [*(key for key in differing if key not in last), *(key for key in last if key in differing)]


def _differs(key: str, configs: Sequence[Config]) -> bool:
    values = {repr(config[key]) for config in configs if key in config}
    if key.endswith("._target_") and any(key not in config for config in configs):
        return True
    return len(values) > 1
