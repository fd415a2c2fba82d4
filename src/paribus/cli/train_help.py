"""`paribus train --help [GROUP]`: every key in a line, or one group with its options, types and ranges. Needs no torch.

What a key means is in the docstring of its class (recipe/key_docs.py), its value in the config that this command line
composes. A pipe gets every line whole; on a terminal a line ends at the edge, or goes on below where that is near.
"""

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paribus.cli.options import exit_codes
from paribus.core.build import did_you_mean
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, FAILED, OK, REQUEUE
from paribus.recipe.compose import compose_config, find_config_dirs, find_config_flags
from paribus.recipe.configs import find_config_folder
from paribus.recipe.describe_keys import (
    RECIPE,
    DescribedKey,
    apply_swaps,
    describe_group,
    describe_headline,
    describe_keys,
    list_options,
)
from paribus.recipe.key_docs import REQUIRED, first_sentence, read_class
from paribus.recipe.near_keys import explain_unknown_key, list_keys

HELP = ("-h", "--help")
_WHOLE = 10_000  # columns of a pipe
_NARROW = 60  # columns below which a description goes on its own line
_KEY = 34  # columns of key and value
_MAX_CHOICES = 6  # that a line names
CHOSEN = {  # groups that are no keys of a recipe
    "experiment": "a whole recipe: data, network, length and settings",
    "technique": "what is changed and measured; several as [a,b]",
}
EXAMPLES = (
    ("paribus train experiment=quickstart technique=cutmix", "seconds on a CPU, no download"),
    ("paribus train experiment=cifar10_small data.root=DIR optimizer.lr=0.01", "any key can be set"),
    ("paribus train -m experiment=smoke technique=baseline,cutmix seed=0,1", "every combination, then a table"),
)
CODES = {
    OK: "done, or done before",
    FAILED: "failed",
    BAD_CONFIG: "the input is wrong",
    REQUEUE: "stopped, run again to resume",
}
FLAGS = (
    ("-m", "train every combination of comma-separated values"),
    ("-q, --quiet", "print the result alone; of a sweep, a line a job and the table"),
    ("--config-dir DIR", "your own configs, laid out as the shipped ones"),
    ("--cfg job", "print the composed config instead of training"),
    ("-h, --help [GROUP]", "this, for the recipe that the command line makes; or one group with its options"),
)


def run(arguments: Sequence[str]) -> int:
    """arguments: those of `paribus train`, --help among them. Raises ConfigError."""
    words = [a for a in arguments if not a.startswith("-") and a not in find_config_flags(list(arguments))]
    asked = [word for word in words if "=" not in word]
    if len(asked) > 1:
        raise ConfigError(f"train --help: found {' '.join(asked)}; one group at a time")
    folders = find_config_dirs(list(arguments))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WHOLE
    if asked:
        lines = format_group(asked[0], [find_config_folder(), *folders], width)
    else:
        search = [f"hydra.searchpath=[{folder.absolute().as_uri()}]" for folder in folders]
        # of a sweep's values, the first
        overrides = [w if "[" in w or "'" in w or "{" in w else w.partition(",")[0] for w in words]
        lines = format_overview(compose_config([*search, *overrides]), overrides, folders, width)
    print("\n".join(lines))
    return OK


def list_groups(folders: Sequence[Path]) -> list[str]:
    found = {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}
    return [*CHOSEN, *sorted(found - set(CHOSEN))]


def format_overview(
    config: Mapping[str, Any], overrides: Sequence[str], own_folders: Sequence[Path], width: int
) -> list[str]:
    """Usage, examples, then every key of a composed config by group."""
    folders = [find_config_folder(), *own_folders]
    recipe = read_class(RECIPE)
    assert recipe is not None, "our own source"
    chosen = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    keys = describe_keys(apply_swaps(dict(config)))
    parts: dict[str, list[DescribedKey]] = {"": []}
    for key in keys:
        parts.setdefault(key.path.partition(".")[0] if "." in key.path else "", []).append(key)
    usage = "paribus train [experiment=NAME] [technique=NAME | technique=[A,B]] [KEY=VALUE ...]"
    lines = [*_wrap(usage, width), ""]
    lines += _wrap("Trains one run; the same command again resumes it. A finished run is not run again.", width)
    lines += ["", *_in_columns(EXAMPLES, width, 71), "", "flags", *_in_columns(FLAGS, width, 20)]
    lines += ["", *_wrap("groups: GROUP=NAME chooses; paribus train --help GROUP says more", width)]
    for group in list_groups(folders):
        about = CHOSEN.get(group) or first_sentence(key.text if (key := recipe.key(group)) else "")
        names = ", ".join(option.name for option in list_options(folders, group))
        lines += _in_columns([(f"{group}=", f"{about}: {names}" if about else names)], width, 13)
    which = " ".join(f"{key}={chosen[key]}" for key in CHOSEN if key in chosen)
    lines += ["", *_wrap(f"keys, with their values {f'under {which}' if which else 'by default'}", width)]
    order = [key.name for key in recipe.keys]
    for group, found in sorted(parts.items(), key=lambda part: order.index(part[0]) if part[0] in order else -1):
        about = first_sentence(key.text if (key := recipe.key(group)) else "")
        lines += [""] if group else []
        lines += _wrap(f"{group}: {about}", width) if group else []
        lines += [line for key in found for line in _key_line(key, width)]
    return [*lines, "", *_wrap(exit_codes(CODES), min(width, 110))]


def format_group(word: str, folders: Sequence[Path], width: int) -> list[str]:
    """A group, or one key of it: options, and each key with its type, default and description. Raises ConfigError."""
    group, _, only = word.partition(".")
    groups = list_groups(folders)
    recipe = read_class(RECIPE)
    assert recipe is not None, "our own source"
    if group not in groups and recipe.key(group) is None:
        known = [*groups, *(key.name for key in recipe.keys if key.name not in groups and key.name != "techniques")]
        near = did_you_mean(word, known) or explain_unknown_key(word, list_keys(compose_config([])))
        raise ConfigError(f"train --help: no group {word}{near}; there are {', '.join(known)}")
    about = CHOSEN.get(group) or (key.text if (key := recipe.key(group)) else "")
    lines = _wrap(f"{group}: {about}", width)
    if group in groups:
        return [*lines, *_format_options(group, only, folders, width)]
    config = compose_config([])
    found = [key for key in describe_keys(config) if key.path.partition(".")[0] == group]
    return [*lines, "", *_format_keys(_only(found, group, only), width)]


def _format_options(group: str, only: str, folders: Sequence[Path], width: int) -> list[str]:
    options = list_options(folders, group)
    column = min(24, max(len(option.name) for option in options) + 2)
    lines = ["", *_in_columns([(option.name, describe_headline(option)) for option in options], width, column)]
    if group == "experiment":
        return [*lines, "", *_wrap("paribus train experiment=NAME --help shows every key that one sets", width)]
    for part in describe_group(group, options):
        found = _only(part.keys, group, only)
        if not found:
            continue
        values = f" (values of {part.base})" if len(part.options) > 1 else ""
        lines += ["", *_wrap(f"{part.title}{values}", width)]
        lines += _wrap(part.summary, width, "  ") if part.summary else []
        lines += _format_keys(found, width)
    return lines


def _only(keys: Iterable[DescribedKey], group: str, name: str) -> list[DescribedKey]:
    start = f"{group}.{name}"
    return [key for key in keys if not name or key.path == start or key.path.startswith(f"{start}.")]


def _format_keys(keys: Iterable[DescribedKey], width: int) -> list[str]:
    """Two lines or more a key: value and type, then what it means."""
    lines: list[str] = []
    for key in keys:
        kind = key.doc.kind if key.doc is not None else ""
        lines += _in_columns([(format_assignment(key), kind)], width, _KEY)
        if key.doc is not None:
            lines += _wrap(drop_sources(key.doc.text), min(width, 100), "      ")
    return lines


def _key_line(key: DescribedKey, width: int) -> list[str]:
    text = _with_choices(first_sentence(drop_sources(key.doc.text)), key.doc.choices) if key.doc is not None else ""
    return _in_columns([(format_assignment(key), text)], width, _KEY)


def _with_choices(text: str, choices: Sequence[str]) -> str:
    """
    >>> _with_choices("how images are resized", ["bilinear", "area"]), _with_choices("a or b", ["a", "b"])
    ('how images are resized; one of bilinear, area', 'a or b')
    """
    named = all(re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text) for choice in choices)
    if named or len(choices) > _MAX_CHOICES:
        return text
    return "; ".join([*filter(None, [text]), f"one of {', '.join(choices)}"])


def drop_sources(text: str) -> str:
    """Without the places in the source that a docstring names for its reader."""
    return re.sub(r" \(([\w/.]+\.(py|md)[^()]*|`\w+`)\)", "", text)


def format_assignment(key: DescribedKey) -> str:
    """As it is typed: optimizer.betas=[0.9,0.999], with + where the config does not have it."""
    return f"{'+' if key.is_new else ''}{key.path}={_format_value(key.value)}"


def _format_value(value: Any) -> str:
    if value == REQUIRED:
        return "VALUE"
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_format_value, value))}]"
    if isinstance(value, Mapping):
        return "{}" if not value else "{...}"
    return f"{value:.3g}" if isinstance(value, float) and len(repr(value)) > 8 else str(value)


def _in_columns(rows: Iterable[tuple[str, str]], width: int, column: int) -> list[str]:
    """Two columns; the second is cut at the edge, or goes below where the terminal is narrow."""
    lines: list[str] = []
    for left, right in rows:
        if width < _NARROW and right:
            lines += [*_wrap(left, width, "  "), *_wrap(right, width, "      ")]
        else:
            line = f"  {left:<{column}}  {right}".rstrip()
            lines.append(line if len(line) <= width else line[: width - 1] + "…")
    return lines


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    width = max(20, min(width, 110))
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
