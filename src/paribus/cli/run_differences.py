"""What differs between runs: the keys of their configs that have several values, under short names. Needs no torch.

A config.yaml of a run is a few hundred lines, of which most are those of the run beside it. So it is read section by
section (a top-level key and what is below it), and equal sections are read once: 200 runs take as long as a few.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from paribus.core.errors import ConfigError

Config = Mapping[str, Any]  # dotted key -> value

# Not shown as differences: the name of the run's folder says the first, the column `step` the second; the rest says
# where a run lies and who watches it, or is the checksum of a file that another key names.
_NOT_SHOWN = re.compile(r"(name|steps|paths\..*|tracker\..*|.*_sha256)")
_MAX_TEXT = 24  # characters of a value in a table


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


def shorten(keys: Sequence[str], every_key: Iterable[str]) -> dict[str, str]:
    """Key -> the end of it that no other key has: `optimizer.lr` is `lr`, and `model._target_` is `model`.

    >>> shorten(["optimizer.lr", "data.size", "model._target_"], ["data.size", "model.size", "model.depth"])
    {'optimizer.lr': 'lr', 'data.size': 'data.size', 'model._target_': 'model'}
    """
    named = {key.removesuffix("._target_") for key in (*keys, *every_key)}
    short: dict[str, str] = {}
    for key in keys:
        parts = key.removesuffix("._target_").split(".")
        ends = [".".join(parts[i:]) for i in reversed(range(len(parts)))]
        alone = (e for e in ends if sum(n == e or n.endswith(f".{e}") for n in named) == 1)
        short[key] = next(alone, ends[-1])
    return short


def format_value(value: Any) -> str:
    """For a table: a class without its module, a list with commas, cut where it is long.

    >>> format_value("paribus.models.convnet.ConvNet"), format_value([16, 32]), format_value(None), format_value(1e-3)
    ('ConvNet', '16,32', 'null', '0.001')
    """
    if value is None or isinstance(value, bool):
        text = "null" if value is None else str(value).lower()
    elif isinstance(value, list):
        text = ",".join(map(format_value, value)) or "none"
    elif isinstance(value, float):
        text = f"{value:g}"
    elif isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)+", value) and value.rpartition(".")[2][:1].isupper():
        text = value.rpartition(".")[2]
    else:
        text = str(value)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def match_key(typed: str, every_key: Iterable[str]) -> str:
    """The key that is meant by its end. Raises ConfigError where there is none, or several."""
    if typed in ("technique", "techniques"):
        return "techniques"
    keys = sorted(dict.fromkeys(key.removesuffix("._target_") for key in every_key))
    found = [key for key in keys if key == typed] or [key for key in keys if key.endswith(f".{typed}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"--where: {typed} may be {' or '.join(found)}; give one of them")
    from paribus.core.build import did_you_mean  # pydantic comes with it, and only a mistake needs it

    near = did_you_mean(typed, [*keys, *(key.rpartition(".")[2] for key in keys)])
    raise ConfigError(f"--where: {typed}: no run has such a key{near}")


def has_value(config: Config, key: str, wanted: str) -> bool:
    """Whether a config has this value, as it is written on a command line or shown in the table.

    >>> has_value({"lr": 0.01}, "lr", "1e-2"), has_value({"techniques": ["cutmix"]}, "techniques", "baseline")
    (True, False)
    """
    if key == "techniques":
        chosen = config.get(key) or []
        names = [name for name in wanted.strip("[]").split(",") if name not in ("", "baseline", "none")]
        return set(names) <= set(chosen) if names else not chosen
    value = config[key] if key in config else config.get(f"{key}._target_", ...)
    if value is ...:
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    return wanted in (str(value), format_value(value)) or wanted.strip("[]").replace(" ", "") == format_value(value)
