"""`paribus study noise`: a study's baseline, or one recipe, against itself: which difference can n seeds see?"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from paribus.cli.options import path
from paribus.cli.several_runs import leave_out_wandb_id
from paribus.cli.study.common import choose_workers, print_table, runs_folder, with_configs
from paribus.cli.study.run import run_cells
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, OK, REQUEUE
from paribus.core.formatting import format_clock
from paribus.study import plan as plans
from paribus.study.load import load_study
from paribus.study.noise import STAGE, format_lone_study, open_stage, read_noise
from paribus.study.runner.signals import LaunchStop
from paribus.study.spec import SPEC, Study, parse_key
from paribus.study.units import choose_direction, read_margin

SCHEMA = 1
STDOUT = "-"
_OF_RECIPES = ("out", "metric", "margin", "lower_is_better", "higher_is_better")  # options


def run(args: argparse.Namespace) -> int:
    if _is_study(args):
        return _measure(args, path(args.what[0]))
    folder, written = _write_record(args, tuple(args.what))
    try:
        return _measure(args, folder)
    finally:
        if written and not (folder / STAGE).exists():  # nothing could be planned with it
            (folder / SPEC).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it has other files
                folder.rmdir()


def _measure(args: argparse.Namespace, folder: Path) -> int:
    leave = LaunchStop()
    study = with_configs(load_study(folder, lone=True), args.config_dir)
    stage = open_stage(study, args.arm, args.seeds)
    if args.plan:
        return _plan(args, stage)
    leave_out_wandb_id()
    (arm,) = stage.spec.arms
    with contextlib.redirect_stdout(sys.stderr) if args.json == Path(STDOUT) else contextlib.nullcontext():
        print(f"{stage.name}: {len(stage.spec.seeds)} runs of {arm}", flush=True)
        if (code := _compose(args, study.folder, arm, len(stage.spec.seeds))) != OK:
            return code
        code = run_cells(args, stage, plans.require_plan(stage), leave)
    return code if code == REQUEUE else _tell(args, study, code)


def _is_study(args: argparse.Namespace) -> bool:
    """Whether a folder is given, not a recipe. Raises ConfigError where neither is."""
    words = args.what
    if any("=" in word for word in words) and not (len(words) == 1 and Path(words[0]).exists()):
        return False
    if len(words) > 1:
        raise ConfigError(f"study noise: found {' '.join(words)}; should be one FOLDER, or overrides KEY=VALUE")
    if given := [name for name in _OF_RECIPES if getattr(args, name)]:
        flag = given[0].replace("_", "-")
        raise ConfigError(f"--{flag}: is for a recipe, experiment=NAME; of a study, study.yaml says it")
    return True


def _write_record(args: argparse.Namespace, recipe: tuple[str, ...]) -> tuple[Path, bool]:
    """Make the folder of a recipe, with a study.yaml that says it; returns whether that is new. Raises ConfigError."""
    if args.arm is not None:
        raise ConfigError("--arm: is for a study; a recipe is one arm")
    if wrong := [word for word in recipe if "=" not in word and not word.startswith("~")]:
        raise ConfigError(f"study noise: found {wrong[0]!r} among overrides; each should be KEY=VALUE")
    names = [word.partition("=")[2] for word in recipe if parse_key(word) == "experiment"]
    if not names and args.out is None:
        raise ConfigError("study noise: without experiment=NAME the folder needs a name: --out DIR")
    folder = args.out or Path(f"noise_{names[0]}")
    metric = args.metric or "val/acc1"
    margin = None if args.margin is None else read_margin(args.margin, metric, "--margin")
    own = None if args.config_dir is None else Path(os.path.relpath(args.config_dir, folder)).as_posix()
    up = choose_direction(metric, args.lower_is_better, args.higher_is_better)
    text, record = format_lone_study(recipe, metric, up, margin, own), folder / SPEC
    if record.exists():
        if record.read_text(errors="replace") == text:
            return folder, False
        raise ConfigError(
            f"{record}: is there already and says something else; paribus study noise {folder} goes on with it, "
            "--out DIR takes another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(text)
    except OSError as error:
        raise ConfigError(f"{record} cannot be written: {error.strerror}; --out DIR takes another folder") from error
    return folder, True


def _compose(args: argparse.Namespace, folder: Path, arm: str, seeds: int) -> int:
    """Plan the runs in a separate process, so that this one stays small while they train; its exit code."""
    configs = ["--config-dir", str(args.config_dir)] if args.config_dir else []
    words = ["study", "noise", str(folder), "--plan", "--quiet", "--arm", arm, "--seeds", str(seeds), *configs]
    code = subprocess.call([sys.executable, "-P", "-m", "paribus.cli", *words], stdout=sys.stderr)
    return code if code >= 0 else BAD_CONFIG


def _plan(args: argparse.Namespace, stage: Study) -> int:
    from paribus.cli.study.plan import warn_of_edits
    from paribus.recipe.arms import build_plan  # torch comes with it
    from paribus.study.rows import read_rows
    from paribus.study.status import build_status

    rows = read_rows(stage.results_path)
    try:
        made = build_plan(stage)
        stage.plan_path.parent.mkdir(exist_ok=True)
        plans.freeze(stage, made, rows)
    except ConfigError as error:
        raise ConfigError(f"{stage.plan_path.parent}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{stage.plan_path} cannot be written: {error.strerror}") from error
    warn_of_edits(rows)
    if args.quiet:
        return OK
    workers = args.workers or choose_workers(stage, made)
    found = build_status(made, rows, runs_folder(args, stage), time.time(), workers)
    print(f"{stage.name}: {stage.spec.question}\n")
    print_table(found, stage)
    if found.seconds_left:
        print(f"\nabout {format_clock(found.seconds_left)} with {workers} at a time")
    print(f"plan: {stage.plan_path}")
    return OK


def _tell(args: argparse.Namespace, study: Study, code: int) -> int:
    """Print what was found, or write it as JSON."""
    from paribus.study.report.files import write_file
    from paribus.study.stats import to_plain

    noise = read_noise(study)
    if noise is None:  # no run has ended with a row
        return code
    if args.json is not None:
        text = json.dumps({"schema": SCHEMA, "study": study.name, **to_plain(noise)}, indent=1, allow_nan=False) + "\n"
        if args.json == Path(STDOUT):
            print(text, end="")
            return code
        write_file(args.json, text)
    from paribus.study.judge.text import format_aligned
    from paribus.study.report.sections_noise import choose_noise_unit, make_section

    section = make_section(noise, choose_noise_unit(noise))
    tables = [format_aligned(table) for table in section.tables]
    print("\n" + "\n\n".join([f"Noise floor of {noise.metric}", *section.notes[:2], *tables, *section.notes[2:]]))
    print(f"\nrows: {open_stage(study).results_path}")
    return code
