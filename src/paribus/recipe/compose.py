"""Composing a config from overrides, outside Hydra's command line; Hydra's errors become one line."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from paribus.core.build import did_you_mean
from paribus.core.errors import ConfigError
from paribus.recipe.configs import find_config_folder
from paribus.recipe.configs import list_options as list_shipped_options

_COMBINED = ("technique", "tracker")  # groups of which several options make sense together, as a list


def compose_config(overrides: list[str]) -> dict[str, Any]:
    """The config that these overrides make, as plain data, outside Hydra's command line. Raises ConfigError."""
    from hydra import compose, initialize_config_dir

    check_choices(overrides)
    try:
        with initialize_config_dir(str(find_config_folder()), version_base="1.3"):
            return cast(dict[str, Any], OmegaConf.to_container(compose("train", overrides), resolve=True))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(explain_hydra_error(error, overrides)) from error


def check_choices(overrides: Iterable[str], config_dirs: Sequence[Path] = ()) -> None:
    """Raise ConfigError if a config group is chosen twice, where Hydra would silently take the last choice alone, or an
    option is twice in a list. Of a plain key (seed=1 seed=2) the last counts, so that a script can append its own.

    config_dirs: further folders of configs, beside the shipped ones.
    """
    groups = {path.name for folder in (find_config_folder(), *config_dirs) for path in _list_folders(folder)}
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
    for entry in (content.get("defaults") or []) if isinstance(content, dict) else []:
        if isinstance(entry, str) and entry != "_self_" and depth:
            found = _read_techniques(entry, folders, depth - 1) or found
        elif isinstance(entry, dict):
            choice = next((v for k, v in entry.items() if str(k).split(" ")[-1].strip("/") == "technique"), None)
            found = [choice] if isinstance(choice, str) else list(choice or found)
    return found


def explain_hydra_error(error: BaseException, arguments: list[str]) -> str:
    """Hydra's error of several lines as one: where, what, and what to do."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.removesuffix(".yaml").rpartition("/")
        known_options = list(error.options or list_shipped_options(group))
        group = group or "config"
        there = ", ".join(known_options)
        return f"{group}={name}: there is no such {group}{did_you_mean(name, known_options)}; there are {there}"
    causes = [str(e).strip() for e in (error, error.__cause__) if e is not None and str(e).strip()]
    text = " ".join(line.strip() for line in "\n".join(causes).splitlines() if line.strip())
    if "not in struct" in text or "Could not override" in text:
        key = next(
            (a.lstrip("+~").split("=")[0] for a in arguments if f"'{a.lstrip('+~').split('=')[0]}'" in text),
            None,
        )
        if key is not None and key in _list_keys(arguments):
            return f"{key}: new keys are added with +, as in +{key}.NAME._target_=CLASS"
        if key is not None:
            return f"{key}: no such key{did_you_mean(key, _list_keys(arguments))}; paribus train --help shows them all"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {next(iter(str(error).splitlines()), 'cannot be resolved')}"
    if isinstance(error, HydraException | OmegaConfBaseException | yaml.YAMLError):
        advice = "; an override is key=value" if "parsing override" in text else ""
        if "LexerNoViableAlt" in text or "mismatched input" in text:
            advice = "; a value with special characters goes in two pairs of quotes: \"key='value'\""
        return text.split(" See https://")[0] + advice
    # what Hydra did not expect itself: an assertion, an empty name, a file that is not text
    return f"{' '.join(arguments)}: cannot be composed: {type(error).__name__}: {text[:300]}"


def _list_keys(arguments: list[str]) -> list[str]:
    """The dotted keys of the config under these choices of groups (data=digits), for near matches."""

    def list_dotted(node: Any, path: str) -> list[str]:
        if not isinstance(node, dict):
            return [path]
        return [path, *(key for k, v in node.items() for key in list_dotted(v, f"{path}.{k}" if path else str(k)))]

    groups = {path.name for path in _list_folders(find_config_folder())}
    choices = [a for a in arguments if a.partition("=")[0] in groups]
    try:
        return list_dotted(compose_config(choices), "")
    except ConfigError:  # the user's own groups, or two mistakes at once
        return list_dotted(compose_config([]), "")
