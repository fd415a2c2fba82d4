"""Hydra composes, then steps aside: overrides, --cfg, -m and --config-dir are its own; --help, folders, errors and exit
codes are ours.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from paribus.cli import train_help
from paribus.cli.main import complain
from paribus.cli.several_runs import leave_out_wandb_id
from paribus.cli.sweep import Job, JobResult, check_distinct, find_folders, find_swept, format_table, read_metrics
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
    if set(train_help.HELP) & set(arguments):
        return train_help.run(arguments)
    quiet = bool(_QUIET & set(arguments))  # ours, not Hydra's
    arguments = [quote_path(a) for a in arguments if a not in _QUIET]
    several = [a for a in arguments if a in ("-m", "--multirun")]  # argparse wants all overrides in one place
    configs = find_config_flags(arguments)
    arguments = [*several, *configs, *_without(arguments, [*several, *configs])]
    process = os.getpid()
    codes: list[int] = []
    results: list[JobResult] = []  # of a sweep
    stops: list[Any] = []  # the process's one StopRequest, once there is one
    sweeping = bool({"-m", "--multirun"} & set(arguments)) or "hydra.mode=MULTIRUN" in arguments

    # with a launcher or sweeper of the user's, jobs are started by it; else all are composed before the first starts
    ours = sweeping and not any(a.startswith(("hydra/launcher", "hydra/sweeper")) for a in arguments)
    collected: list[Job] = []

    def start(job: Job) -> tuple[int, str]:
        overrides = job.overrides if sweeping else ()
        alone = from_environment().size == 1  # else the command lacks its torchrun or srun part
        command = (*find_config_flags(arguments), *job.overrides) if alone else ()
        screen = Screen(command, quiet, sweeping, " ".join(find_swept(job, arguments)) if sweeping else "")
        if REQUEUE in codes or (stops and stops[0].is_requested):  # a stop ends the sweep too
            complain(f"not started, since a stop was requested: {' '.join(overrides)}", REQUEUE)
            code, message = REQUEUE, "not started"
        else:
            code, message = _one_job(job, overrides, stops, screen)
        codes.append(code)
        return code, message

    def take(cfg: DictConfig) -> None:
        job = _read_job(cfg)
        if ours:
            collected.append(job)
            return
        code, _ = start(job)
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
            hydra.main(version_base="1.3", config_path=str(find_config_folder()), config_name="train")(take)()
        if collected:
            folders = find_folders(collected)
            check_distinct(collected, folders, overrides)
            ended = [start(job) for job in collected]
            results = [
                JobResult(job.overrides, code, message.removeprefix(f"{folder}: "), read_metrics(folder))
                for job, folder, (code, message) in zip(collected, folders, ended, strict=True)
            ]
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
    if len(results) > 1 and from_environment().is_main:
        print("\n" + "\n".join(format_table(results)))
    return _overall(codes, quiet) if codes else OK


def _without(arguments: list[str], taken: list[str]) -> list[str]:
    """The arguments, without the first of each that is taken."""
    left = list(arguments)
    for argument in taken:
        left.remove(argument)
    return left


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


def _read_job(cfg: DictConfig) -> Job:
    """What Hydra composed, while its own config says where from."""
    hydra_cfg = HydraConfig.get()
    # unresolved: `seed=${nowhere}` should be refused where it is used, not where it is printed
    task = cast(list[str], OmegaConf.to_container(hydra_cfg.overrides.task))
    choice: Any = hydra_cfg.runtime.choices.get("technique")
    folders = [Path(source.path) for source in hydra_cfg.runtime.config_sources if source.schema == "file"]
    composed, error = {}, ""
    try:
        composed = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as unresolved:  # an interpolation that leads nowhere
        error = str(ConfigError(explain_hydra_error(unresolved, task)))
    return Job(
        composed,
        (choice,) if isinstance(choice, str) else tuple(choice or ()),
        tuple(folders),
        tuple(find_open_keys(hydra_cfg.runtime.choices, folders, task)),
        tuple(task),
        error,
    )


def _one_job(job: Job, overrides: Sequence[str], stops: list[Any], screen: Screen) -> tuple[int, str]:
    """The exit code, and the complaint where it is not 0."""
    from paribus.engine.stop import StopRequest
    from paribus.recipe.recipe import refuse_missing
    from paribus.runs.train import train  # imports torch, so only now

    if not stops:
        stops.append(StopRequest())
    if overrides and not screen.quiet:
        print(f"\n== {' '.join(overrides)}", flush=True)
    try:
        if job.error:
            raise ConfigError(job.error)
        refuse_missing(job.open_keys)
        return train(with_keys_set(dict(job.config), list(job.folders)), list(job.techniques), stops[0], screen), ""
    except ConfigError as error:
        return complain(f"{screen.prefix}{error}", BAD_CONFIG), str(error)
    except RunFailed as error:
        return complain(f"{screen.prefix}{error}", FAILED), str(error)
    except Exception as error:  # a bug in paribus, or in the user's own class
        why = explain_exception(error)
        said = f"{screen.prefix}the run failed: {why}"
        return complain(f"{said}; its FAILED file and PARIBUS_DEBUG=1 show where", FAILED), why


def _overall(codes: list[int], quiet: bool) -> int:
    """0 if every job ended well; else the most severe: failed before bad input before stopped."""
    if len(codes) > 1 and not (quiet and set(codes) == {OK}):
        print(
            f"\n{len(codes)} jobs: "
            + ", ".join(f"{n} ended with {c}" for c in sorted(set(codes)) if (n := codes.count(c)))
        )
    return next((code for code in (FAILED, BAD_CONFIG, REQUEUE) if code in codes), OK)
