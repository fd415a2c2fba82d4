"""Composing a config from overrides, outside Hydra's command line; Hydra's errors become one line."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from paribus.core.build import did_you_mean, resolve
from paribus.core.errors import ConfigError, explain_exception, to_one_line
from paribus.recipe.configs import check_config_dir, find_config_folder, find_hidden
from paribus.recipe.configs import list_options as list_shipped_options
from paribus.recipe.near_keys import explain_unknown_key, list_keys
from paribus.recipe.overlays import explain_unnamed_key, get_value
from paribus.study.runner.cells import quote_override

MISSING = "???"  # OmegaConf's value that somebody has yet to give
_CONFIG_FLAGS = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")
_OWN_CONFIGS = "; your own are found with --config-dir DIR (in study.yaml and in Python: config_dir)"
_COMBINED = ("technique", "tracker", "evaluators")  # groups of which several options make sense together, as a list


def compose_config(overrides: list[str], config_dir: Path | None = None) -> dict[str, Any]:
    """The config that these overrides make, as plain data, outside Hydra's command line. Raises ConfigError.

    config_dir: a folder of the user's own configs.
    """
    cfg = compose_unresolved(overrides, config_dir)
    try:
        return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError(explain_hydra_error(error, overrides)) from error


def compose_unresolved(
    overrides: list[str], config_dir: Path | None = None, return_hydra_config: bool = False
) -> DictConfig:
    """The same before its interpolations are resolved; return_hydra_config: with the choices in it. Raises
    ConfigError."""
    from hydra import compose, initialize_config_dir

    folders = [] if config_dir is None else [check_config_dir(config_dir)]
    check_choices(overrides, folders)
    search = [add_to_search_path(folder) for folder in folders]
    if search and any(override.startswith("hydra.searchpath") for override in overrides):
        raise ConfigError(f"hydra.searchpath: given beside --config-dir {config_dir}, which says the same; use one")
    try:
        with initialize_config_dir(str(find_config_folder()), version_base="1.3"):
            return compose("train", [*search, *overrides], return_hydra_config=return_hydra_config)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        flags = [] if config_dir is None else ["--config-dir", str(config_dir)]
        raise ConfigError(explain_hydra_error(error, [*flags, *overrides])) from error


def add_to_search_path(config_dir: Path) -> str:
    """The override with which Hydra looks for configs in this folder too, after the shipped ones."""
    return f"hydra.searchpath=[{quote_override(f'file://{config_dir.absolute()}')}]"


def quote_path(argument: str) -> str:
    """A path as the shell passes it, in the quotes that Hydra's grammar needs around spaces, ~ and letters like ü."""
    key, _, value = argument.partition("=")
    plain = re.fullmatch(r"[\w./:%+@-]*", value, flags=re.ASCII)
    if key not in ("paths.runs", "data.root", "data.pack", "init_from") or plain or re.search(r"['\"\\,]|\$\{", value):
        return argument
    return f"{key}='{value}'"


def check_choices(overrides: Iterable[str], config_dirs: Sequence[Path] = ()) -> None:
    """Raise ConfigError if a config group is chosen twice, where Hydra would silently take the last choice alone, or an
    option is twice in a list. Of a plain key (seed=1 seed=2) the last counts, so that a script can append its own.

    config_dirs: further folders of configs, beside the shipped ones.
    """
    groups = {path.name for folder in (find_config_folder(), *config_dirs) for path in _list_folders(folder)}
    hidden = {(group, name): path for path in config_dirs for group in groups for name in find_hidden(group, path)}
    values: dict[str, list[str]] = {}
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        key = key.strip().removesuffix("@_global_")
        if "/" in key or key.partition("@")[0] in groups:
            values.setdefault(key, []).append("~" if override.startswith("~") else value.strip())
    for group, chosen in values.items():
        if len(chosen) > 1:
            raise ConfigError(f"{group}: chosen twice, as {' and as '.join(chosen)}; {_advise(group, chosen)}")
        for listed in re.findall(r"\[([^\[\]]*)\]", chosen[0]):
            names = _split_names(listed)
            if twice := [name for i, name in enumerate(names) if name in names[:i]]:
                raise ConfigError(f"{group}: found {chosen[0]}; {twice[0]} is listed twice")
        for name in _split_names(re.sub(r"[\[\]]", "", chosen[0])):
            if folder := hidden.get((group, name)):
                raise ConfigError(
                    f"{group}={name}: paribus has one of that name, which would be taken, not "
                    f"{folder / group / name}.yaml; give yours another name"
                )
    _check_taken_places(values, [*config_dirs, find_config_folder()])


def _check_taken_places(values: Mapping[str, list[str]], folders: Sequence[Path]) -> None:
    """Raise ConfigError if a choice is given for a place that a chosen technique fills itself, which would be replaced
    without a word. A technique says so in its file's defaults: `override /GROUP: null`. values: group -> choices."""
    for name in _split_names(re.sub(r"[\[\]]", "", "".join(values.get("technique", [])))):
        path = next((p for folder in folders if (p := folder / "technique" / f"{name}.yaml").is_file()), None)
        for group in _list_emptied(path) if path is not None else ():
            given = values.get(group, ["null"])[0]
            if given not in ("null", "~"):
                raise ConfigError(
                    f"technique={name} takes the place of {group}, so {group}={given} would have no effect; leave one "
                    "of the two out"
                )


def _list_emptied(path: Path) -> list[str]:
    """The groups that a config's defaults list sets to null."""
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):  # which Hydra will say
        return []
    defaults = content.get("defaults") if isinstance(content, dict) else None
    entries = [entry for entry in defaults if isinstance(entry, dict)] if isinstance(defaults, list) else []
    return [str(key).split(" ")[-1].strip("/") for entry in entries for key, value in entry.items() if value is None]


def _advise(group: str, chosen: list[str]) -> str:
    names = list(dict.fromkeys(name for value in chosen for name in _split_names(re.sub(r"^\[|\]$", "", value))))
    is_plain = all(re.fullmatch(r"[\w.-]+|\[[\w., -]*\]", value) for value in chosen)
    if group in _COMBINED and is_plain and len(names) > 1:
        return f"only the last would count; {group}=[{','.join(names)}] takes all of them"
    return "only the last would count; choose one"


def _split_names(listed: str) -> list[str]:
    return [name.strip(" '\"") for name in listed.split(",") if name.strip(" '\"")]


def _list_folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def check_experiment(overrides: Iterable[str], config_dirs: Sequence[Path]) -> None:
    """Raise ConfigError if the chosen experiment's file chooses techniques: Hydra would drop them without a word beside
    technique=NAME, and alone it says that there is no technique to override."""
    chosen = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    for name in chosen.get("experiment", "").split(","):
        if found := _read_techniques(name, config_dirs):
            raise ConfigError(
                f"experiment={name}: its file chooses technique: {', '.join(found)}, which only a command can; take it "
                f"out and give technique=[{','.join(found)}]"
            )


def _read_techniques(experiment: str, folders: Sequence[Path], depth: int = 9) -> list[str]:
    """The techniques in the defaults list of an experiment's file in these folders, or of one that it builds upon."""
    path = next((p for folder in folders if (p := folder / "experiment" / f"{experiment}.yaml").is_file()), None)
    try:
        content = yaml.safe_load(path.read_text()) if path is not None else None
    except (yaml.YAMLError, UnicodeDecodeError):  # which Hydra will say
        return []
    found: list[str] = []
    defaults = content.get("defaults") if isinstance(content, dict) else None
    for entry in defaults if isinstance(defaults, list) else []:  # anything else Hydra will refuse
        if isinstance(entry, str) and entry != "_self_" and depth:
            found = _read_techniques(entry, folders, depth - 1) or found
        elif isinstance(entry, dict):
            choice = next((v for k, v in entry.items() if str(k).split(" ")[-1].strip("/") == "technique"), None)
            chosen = [choice] if isinstance(choice, str) else choice if isinstance(choice, list) else []
            found = [name for name in chosen if isinstance(name, str)] or found
    return found


def explain_hydra_error(error: BaseException, arguments: list[str]) -> str:
    """Hydra's error of several lines as one: where, what, and what to do."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.removesuffix(".yaml").rpartition("/")
        known_options = list(error.options or list_shipped_options(group))
        group = group or "config"
        there = ", ".join(known_options)
        own = "" if find_config_flags(arguments) else _OWN_CONFIGS
        return f"{group}={name}: there is no such {group}{did_you_mean(name, known_options)}; there are {there}{own}"
    causes = [str(e).strip() for e in (error, error.__cause__) if e is not None and str(e).strip()]
    text = " ".join(line.strip() for line in "\n".join(causes).splitlines() if line.strip())
    if any(words in text for words in ("not in struct", "Could not override", "Could not delete")):
        key, value = next(
            ((k.lstrip("+~"), v) for a in arguments for k, _, v in [a.partition("=")] if f"'{k.lstrip('+~')}'" in text),
            (None, ""),
        )
        if key is not None:
            return _explain_missing_key(key, value, _compose_choices(arguments))
    if (group := re.match(r"You must specify '([^']+)'.*Available options:(.*)", text)) is not None:
        there = ", ".join(group[2].split())
        return f"{group[1]}: missing value ({MISSING}); give {group[1]}=NAME, one of {there}"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {to_one_line(str(error)) or 'cannot be resolved'}"
    if isinstance(error, HydraException | OmegaConfBaseException | yaml.YAMLError):
        advice = f"; an override is key=value{_explain_word(text)}" if "parsing override" in text else ""
        if "but found '?'" in text:
            advice = f'; a value that is yet to be given is "{MISSING}", in quotes within braces'
        if "LexerNoViableAlt" in text or "mismatched input" in text:
            advice = "; a value with special characters goes in two pairs of quotes: \"key='value'\""
        return text.split(" See https://")[0] + advice
    # what Hydra did not expect itself: an assertion, an empty name, a file that is not text
    return f"{' '.join(arguments)}: cannot be composed: {explain_exception(error)}"


def explain_flag(name: str, value: str = "") -> str:
    """For --lr 0.1, as many tools take it: " (did you mean optimizer.lr?)", or nothing."""
    known = [*list_keys(compose_config([])), *_list_groups()]
    return f" (did you mean {name}={value or 'VALUE'}?)" if name in known else explain_unknown_key(name, known, value)


def find_config_flags(arguments: list[str]) -> list[str]:
    """Hydra's flags that choose where configs come from (--config-dir DIR), as given; a command for the same run needs
    them again."""
    found: list[str] = []
    for i, argument in enumerate(arguments):
        if argument in _CONFIG_FLAGS:
            found += arguments[i : i + 2]
        elif argument.partition("=")[0] in _CONFIG_FLAGS:
            found.append(argument)
    return found


def find_config_dirs(arguments: list[str]) -> list[Path]:
    """The folder of the last --config-dir, if there is one."""
    flags = [f for a in find_config_flags(arguments) for f in a.split("=", 1)]
    folders = [Path(b).expanduser() for a, b in itertools.pairwise(flags) if a in ("--config-dir", "-cd")]
    return folders[-1:]


def find_open_keys(choices: Mapping[str, Any], folders: Sequence[Path], overrides: Sequence[str]) -> list[str]:
    """The keys that a chosen experiment or technique leaves for somebody to give (???), and that nobody gives. Hydra
    keeps the default of such a key without a word. choices: of groups. folders: of configs."""
    open_keys, given = set[str](), {override.lstrip("+").partition("=")[0] for override in overrides}
    for group, chosen in choices.items():
        for name in [chosen] if isinstance(chosen, str) else list(chosen or []):
            path = next((p for folder in folders if (p := folder / group / f"{name}.yaml").is_file()), None)
            if path is None or "@package _global_" not in (text := path.read_text()):
                continue
            content = yaml.safe_load(text) or {}
            leaves = [key for key in list_keys(content) if not isinstance(get_value(content, key), Mapping)]
            missing = {key for key in leaves if get_value(content, key) == MISSING}
            open_keys |= missing
            given |= set(leaves) - missing
    return sorted(key for key in open_keys if not any(f"{key}.".startswith(f"{k}.") for k in given))


def _explain_word(text: str) -> str:
    """For `paribus train smoke`: which choice it may have been."""
    word = re.search(r"override '([^'=]+)' missing EQUAL", text)
    groups = [group for group in sorted(_list_groups()) if word and word[1] in list_shipped_options(group)]
    return f" (did you mean {' or '.join(f'{group}={word[1]}' for group in groups)}?)" if word and groups else ""


def _explain_missing_key(key: str, value: str, config: dict[str, Any]) -> str:
    parent_path, _, name = key.rpartition(".")
    parent = get_value(config, parent_path) if parent_path else config
    if parent == {} or (isinstance(parent, dict) and name in _list_fields(parent, config)):
        return f"{key}: new keys are added with +, as in +{key}={value or 'VALUE'}"
    if unnamed := explain_unnamed_key(config, key, value):
        return unnamed
    if isinstance(get_value(config, key), dict):
        return f"{key}: new keys are added with +, as in +{key}.NAME._target_=CLASS"
    first, *rest = key.split(".")
    is_there = rest[:1] and get_value(config, f"transforms.{rest[0]}") is not None  # the key below it is misspelt
    if first == "transforms" and rest[:1] and not is_there and rest[0] in list_shipped_options("technique"):
        return f"{key}: no such key; technique={rest[0]} brings it"
    near = explain_unknown_key(key, [*list_keys(config), *_list_groups()], value)
    return f"{key}: no such key{near}; paribus train --help shows them all"


def _list_fields(node: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """The settings of a node's class, of which a config need not write all."""
    try:
        return [field.name for field in fields(resolve(node.get("_target_"), "", tuple(config["packages"])))]
    except ConfigError:  # no class
        return []


def _list_groups() -> list[str]:
    return [path.name for path in find_config_folder().iterdir() if path.is_dir()]


def _compose_choices(arguments: list[str]) -> dict[str, Any]:
    """The config under the choices of groups among these arguments (data=digits), whose keys are then known."""
    groups, flags = [*_list_groups(), "packages"], find_config_flags(arguments)
    # of a sweep (-m data=digits,synthetic) the first
    choices = [a if "[" in a else a.partition(",")[0] for a in arguments if a.partition("=")[0] in groups]
    folder = flags[-1].removeprefix("--config-dir=") if flags else ""
    search = [add_to_search_path(Path(folder))] if folder else []
    for attempt in ([*search, *choices], choices):
        with suppress(ConfigError):
            return compose_config(attempt)
    return compose_config([])  # two mistakes at once
