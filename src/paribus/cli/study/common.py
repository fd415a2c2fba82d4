"""What the commands of `paribus study` share: the folder of runs, how many cells run at a time, a table of states."""

import argparse
import os
import shlex
from dataclasses import replace
from pathlib import Path

from paribus.core.cores import count_cores
from paribus.core.errors import ConfigError
from paribus.study import plan as plans
from paribus.study.runner import devices, repeat
from paribus.study.spec import SPEC, TUNE, Study
from paribus.study.status import Status


def runs_folder(args: argparse.Namespace, study: Study) -> Path:
    return args.runs or Path("runs") / study.name


def with_configs(study: Study, config_dir: Path | None) -> Study:
    """The study with the user's own configs: those that study.yaml names, else --config-dir, else those with which it
    was planned. Raises ConfigError if the first two differ."""
    given = None if config_dir is None else Path(os.path.relpath(config_dir, study.folder)).as_posix()
    stated = study.config_dir
    if stated is None:
        planned = _read_any_plan(study) if given is None else None
        return replace(study, config_dir=planned.config_dir if planned else given)
    if given is not None and config_dir is not None and study.config_folder != Path(os.path.abspath(config_dir)):
        raise ConfigError(
            f"--config-dir {config_dir}: {study.folder / SPEC} says config_dir: {stated}; leave one of the two out"
        )
    return study


def _read_any_plan(study: Study) -> plans.Plan | None:
    """The study's plan, or before there is one that of its tuning."""
    stages = (study, replace(study, stage=TUNE))
    return next((found for one in stages if (found := plans.read_plan(one.plan_path, study.folder))), None)


def where_options(args: argparse.Namespace) -> list[str]:
    """The options that name the same run folders in another command on the same study."""
    return [*(["--runs", str(args.runs)] if args.runs else []), *(["--repeat"] if args.repeat else [])]


def newest_repeat(args: argparse.Namespace, study: Study) -> Path:
    """The folder of the newest repeat. Raises ConfigError if there is none."""
    runs = runs_folder(args, study)
    found = repeat.find_newest(runs)
    if found is None:
        again = shlex.join(["paribus", "study", "run", str(args.study), *where_options(args)])
        raise ConfigError(f"{runs}: has no repeat yet; {again} begins one")
    return found


def choose_workers(study: Study, made: plans.Plan, gpus: list[str] | None = None, per_gpu: int = 1) -> int:
    """As many cells as there are GPUs, or as fit on the cores with a study's threads."""
    gpus = devices.list_gpus() if gpus is None and any(d != "cpu" for d in made.devices.values()) else gpus or []
    return len(gpus) * per_gpu if gpus else max(1, count_cores() // study.spec.threads)


def describe_looks(study: Study) -> str:
    """The looks that study.yaml plans, in a line; "" where the number of seeds is fixed."""
    looks = study.spec.sequential
    if looks is None:
        return ""
    return (
        f"looks at {looks.first} seeds, then every {looks.more}, up to {looks.most}: paribus study run {study.folder} "
        "--until-decided stops at the one that decides the last comparison, and may leave cells out"
    )


def print_table(found: Status, study: Study) -> None:
    """How many cells are in each state, by arm."""
    states = found.states()
    rows = [("arm", "cells", *states)]
    counts = {arm: found.counts(arm) for arm in study.spec.arms} | {"all": found.counts()}
    rows += [(arm, str(sum(n.values())), *(str(n[state]) for state in states)) for arm, n in counts.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for first, *others in rows:
        print("  ".join([first.ljust(widths[0]), *(o.rjust(w) for o, w in zip(others, widths[1:], strict=True))]))
