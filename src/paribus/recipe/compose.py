"""Composing a config from overrides, outside Hydra's command line; Hydra's errors become one line."""

from typing import Any, cast

import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from paribus.core.build import did_you_mean
from paribus.core.errors import ConfigError
from paribus.recipe.configs import find_config_folder
from paribus.recipe.configs import list_options as list_shipped_options


def compose_config(overrides: list[str]) -> dict[str, Any]:
    """The config that these overrides make, as plain data, outside Hydra's command line. Raises ConfigError."""
    from hydra import compose, initialize_config_dir

    try:
        with initialize_config_dir(str(find_config_folder()), version_base="1.3"):
            return cast(dict[str, Any], OmegaConf.to_container(compose("train", overrides), resolve=True))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(explain_hydra_error(error, overrides)) from error


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

    groups = {path.name for path in find_config_folder().iterdir() if path.is_dir()}
    choices = [a for a in arguments if a.partition("=")[0] in groups]
    try:
        return list_dotted(compose_config(choices), "")
    except ConfigError:  # the user's own groups, or two mistakes at once
        return list_dotted(compose_config([]), "")
