"""Settings in which runs differ, as `paribus list runs` shows and takes them: short names, values, conditions."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from paribus.core.errors import ConfigError
from paribus.runs.differences import Config

_MAX_TEXT = 24  # characters of a value in a table


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
