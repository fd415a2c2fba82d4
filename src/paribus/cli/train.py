"""Hydra composes, then steps aside: overrides, --help, --cfg, -m and --config-dir are its own; folders, errors and exit
codes are ours.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from paribus.cli.main import complain
from paribus.cli.several_runs import leave_out_wandb_id
from paribus.core.errors import ConfigError, RunFailed, explain_exception
from paribus.core.exit_codes import BAD_CONFIG, FAILED, OK, REQUEUE
from paribus.engine.world import from_environment
from paribus.recipe.compose import (
    check_choices,
    check_experiment,
    explain_flag,
    explain_hydra_error,
    find_config_dirs,
    find_config_flags,
    find_open_keys,
    quote_path,
)
from paribus.recipe.configs import find_config_folder
from paribus.recipe.overlays import with_keys_set
from paribus.runs.screen import Screen

_QUIET = {"-q", "--quiet"}


class JobEnded(Exception):
    """One job of a sweep did not end with 0. Hydra passes it through a launcher and continues with the other jobs."""


def run(arguments: list[str]) -> int:
    """`paribus train`: compose and train once, or with -m once for each combination. Returns the exit code."""
    quiet = bool(_QUIET & set(arguments))  # ours, not Hydra's
    arguments = [quote_path(a) for a in arguments if a not in _QUIET]
    several = [a for a in arguments if a in ("-m", "--multirun")]  # argparse wants all overrides in one place
    arguments = [*several, *(a for a in arguments if a not in several)]
    process = os.getpid()
    codes: list[int] = []
    stops: list[Any] = []  # the process's one StopRequest, once there is one
    sweeping = bool({"-m", "--multirun"} & set(arguments)) or "hydra.mode=MULTIRUN" in arguments

    def job(cfg: DictConfig) -> None:
        # unresolved: `seed=${nowhere}` should be refused where it is used, not where it is printed
        task = cast(list[str], OmegaConf.to_container(HydraConfig.get().overrides.task))
        overrides = task if sweeping else []
        alone = from_environment().size == 1  # else the command lacks its torchrun or srun part
        screen = Screen((*find_config_flags(arguments), *task) if alone else (), quiet, sweeping)
        if REQUEUE in codes or (stops and stops[0].is_requested):  # a stop ends the sweep too
            codes.append(complain(f"not started, since a stop was requested: {' '.join(overrides)}", REQUEUE))
        else:
            codes.append(_one_job(cfg, overrides, stops, screen))
        code = codes[-1]
        if sweeping and code != OK and os.getpid() != process:  # in this one, `codes` has it
            raise JobEnded(f"a job ended with exit code {code}")

    _check_flags(arguments)
    if sweeping:
        leave_out_wandb_id()
    overrides = [a for a in arguments if not a.startswith("-")]
    config_dirs = find_config_dirs(arguments)
    check_choices(overrides, config_dirs)
    check_experiment(overrides, config_dirs)
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises instead of printing and exiting
    try:
        with tempfile.TemporaryDirectory(prefix="paribus-sweep-") as scratch:
            # Hydra's sweeper wants a folder for its multirun.yaml; runs have their own
            own = [f"hydra.sweep.dir={scratch}"] if sweeping else []
            # argparse wants all overrides in one place, so ours go right before the user's first
            first = next((i for i, a in enumerate(arguments) if "=" in a and a[0] != "-"), len(arguments))
            sys.argv = ["paribus train", *arguments[:first], *own, *arguments[first:]]
            hydra.main(version_base="1.3", config_path=str(find_config_folder()), config_name="train")(job)()
    except JobEnded:
        pass
    except SystemExit as done:  # how Hydra ends --help
        return int(done.code or OK)
    except (ConfigError, RunFailed, BrokenPipeError):
        raise
    except Exception as error:  # a job reports its own errors; so Hydra refused a config or an override
        raise ConfigError(explain_hydra_error(error, arguments)) from error
    finally:
        if "paribus.engine.distributed" in sys.modules:
            sys.modules["paribus.engine.distributed"].destroy_process_group()
        sys.argv = argv
        os.environ.pop("HYDRA_FULL_ERROR")
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error
    return _overall(codes, quiet) if codes else OK


def _check_flags(arguments: list[str]) -> None:
    """Refuse a flag that Hydra does not know in one line; its own parser prints a page of usage."""
    from hydra._internal.utils import get_args_parser  # what hydra.main parses with; there is no public name for it

    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        words = message.partition("unrecognized arguments: --")[2].replace("=", " ").split()
        near = explain_flag(*words[:2]) if words else ""
        raise ConfigError(f"{message}; an override is key=value{near}, and paribus train --hydra-help names the flags")

    parser.error = refuse  # type: ignore[method-assign]
    parser.allow_abbrev = False  # else --experiment is Hydra's --experimental-rerun
    parser.parse_args(arguments)


def _one_job(cfg: DictConfig, overrides: list[str], stops: list[Any], screen: Screen) -> int:
    from paribus.engine.stop import StopRequest
    from paribus.recipe.recipe import refuse_missing
    from paribus.runs.train import train  # imports torch, so only now

    if not stops:
        stops.append(StopRequest())
    if overrides and not screen.quiet:
        print(f"\n== {' '.join(overrides)}", flush=True)
    choice: Any = HydraConfig.get().runtime.choices.get("technique")
    techniques = [choice] if isinstance(choice, str) else list(choice or [])
    try:
        composed = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
        folders = [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.schema == "file"]
        task = cast(list[str], OmegaConf.to_container(HydraConfig.get().overrides.task))
        refuse_missing(find_open_keys(HydraConfig.get().runtime.choices, folders, task))
        return train(with_keys_set(composed, folders), techniques, stops[0], screen)
    except ConfigError as error:
        return complain(str(error), BAD_CONFIG)
    except OmegaConfBaseException as error:  # an interpolation that leads nowhere
        return complain(str(ConfigError(explain_hydra_error(error, overrides))), BAD_CONFIG)
    except RunFailed as error:
        return complain(str(error), FAILED)
    except Exception as error:  # a bug in paribus, or in the user's own class
        return complain(
            f"the run failed: {explain_exception(error)}; its FAILED file and PARIBUS_DEBUG=1 show where", FAILED
        )


def _overall(codes: list[int], quiet: bool) -> int:
    """0 if every job ended well; else the most severe: failed before bad input before stopped."""
    if len(codes) > 1 and not (quiet and set(codes) == {OK}):
        print(
            f"\n{len(codes)} jobs: "
            + ", ".join(f"{n} ended with {c}" for c in sorted(set(codes)) if (n := codes.count(c)))
        )
    return next((code for code in (FAILED, BAD_CONFIG, REQUEUE) if code in codes), OK)
