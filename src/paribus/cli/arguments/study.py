"""The arguments of `paribus study` and its sub-commands."""

import argparse

from paribus.cli.arguments.gate import add_gate_options
from paribus.cli.options import (
    Parser,
    add_config_dir,
    add_direction,
    completes,
    count,
    exit_codes,
    path,
    time_span,
    whole_number,
)
from paribus.core.exit_codes import FAILED, MISMATCH, OK, REQUEUE, STUDY_FAILED
from paribus.study.slurm.templates import list_templates as template_names

SBATCH = ("partition", "account", "qos", "constraint", "time", "mem")  # options of sbatch, under their own names


def describe(parser: Parser) -> None:
    parser.description = "A study is a folder with a study.yaml: a question, its arms and its seeds."
    parser.epilog = (
        "Examples:\n"
        "  paribus study plan experiments/quickstart               check all cells, estimate the time left\n"
        "  paribus study run experiments/quickstart --workers 2    run what is missing; run again to resume\n"
        "  paribus study report experiments/quickstart             verdicts, tables and figures\n"
        "  paribus list studies                                    the studies that there are, each with its question"
    )


def add_plan(parser: Parser) -> None:
    parser.description = "Compose and check every cell, freeze plan.jsonl, and print what would run and for how long."
    parser.epilog = exit_codes({OK: "every cell is valid"})
    _add_study(parser)
    _add_configs(parser)
    _add_workers(parser)
    _add_repeat(parser, "count what run --repeat would train, not what is on record")
    parser.add_argument(
        "--power", action="store_true", help="print how many seeds the smallest effect needs, by the recorded rows"
    )
    parser.add_argument(
        "--count-failed", action="store_true", help="choose tuned settings although runs failed, which count as worst"
    )
    parser.add_argument("--quiet", action="store_true", help="only check and freeze")


def add_run(parser: Parser) -> None:
    parser.description = (
        "Run every cell that is not done. Completed runs are skipped, so the same command resumes a stopped study. "
        "With --repeat every cell is trained anew, under RUNS/repeat-N, and compared with the rows on record. All arms "
        "of one seed come before the next seed, so a study that is cut short is a smaller study. Where study.yaml has "
        "tune:, settings are searched and chosen first."
    )
    parser.epilog = exit_codes(
        {
            OK: "every cell is done",
            STUDY_FAILED: "the study ended with failed cells, or an arm has nothing to choose from",
            MISMATCH: "none failed, but a repeated cell differs from its row on record",
            REQUEUE: "stopped, run again to resume",
        }
    )
    _add_study(parser)
    _add_configs(parser)
    _add_workers(parser, "cells at a time, beside other launchers' (default: by cores or GPUs, theirs included)")
    parser.add_argument(
        "--for",
        dest="time_limit",
        type=time_span,
        metavar="TIME",
        help="e.g. 90s, 150m, 1h30m: start nothing more after it, stop the running cells with a checkpoint, and exit "
        "with 75; it counts from the start of this command",
    )
    _add_repeat(parser, "train every cell anew, and compare; again to go on with a repeat that was stopped")
    parser.add_argument(
        "--until-decided",
        action="store_true",
        help="stop at the planned look that decides the last comparison (seeds: {first, more, most} in study.yaml)",
    )
    parser.add_argument("--per-gpu", type=count, default=1, metavar="M", help="cells at a time on one GPU (default: 1)")
    _add_cluster(parser)


def _add_cluster(parser: Parser) -> None:
    group = parser.add_argument_group("on a cluster", "submit the cells that are not done as a Slurm array, and return")
    group.add_argument("--cluster", choices=("slurm",), help="--workers then limits the cells that run at a time")
    template = group.add_argument(
        "--template", metavar="FILE", help=f"batch script, or {', '.join(template_names())} (default: one_gpu)"
    )
    completes(template, "file")
    group.add_argument("--dry-run", action="store_true", help="print the script and submit nothing")
    for name in SBATCH:
        group.add_argument(f"--{name}", metavar="X", help=f"sbatch --{name}=X, for each cell")
    group.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="any other option: --sbatch=--exclusive; repeatable",
    )
    number = whole_number(0)
    group.add_argument("--gpus", type=number, metavar="N", help="per node (default: 1, or 0 if all arms are on CPU)")
    group.add_argument("--cpus", type=number, metavar="N", help="per process (default: the study's threads)")
    group.add_argument("--nodes", type=number, default=2, metavar="N", help="per cell, for many_nodes (default: 2)")
    group.add_argument("--tasks", type=number, default=0, metavar="N", help="processes per node (default: one per GPU)")


def add_status(parser: Parser) -> None:
    parser.description = "Count the cells that are done, running, failed and waiting, by arm."
    parser.epilog = exit_codes({OK: "printed, whatever the states are"})
    _add_study(parser)
    _add_repeat(parser, "of the newest run --repeat")
    parser.add_argument("--json", action="store_true", help="print JSON for other programs, with one entry per cell")


def add_measure(parser: Parser) -> None:
    parser.description = (
        "Evaluate the kept checkpoints of finished cells with the given evaluators, and add what they find to "
        "measures.jsonl beside the rows, which stay as they are. A cell without its checkpoint is listed and skipped. "
        "The same command again does what is missing."
    )
    parser.epilog = (
        "Overrides: evaluators.NAME.KEY=VALUE, +evaluators.NAME._target_=CLASS, data.root=DIR, data.pack=DIR, "
        "data.workers=N, runtime.KEY=VALUE, packages=[NAME]. An evaluator has one configuration in a study.\n\n"
        "Example:\n"
        "  paribus study measure experiments/NAME --evaluators calibration,attack evaluators.attack.steps=20\n\n"
        + exit_codes(
            {
                OK: "every cell with a checkpoint is measured",
                FAILED: "no cell has its checkpoint, or one has other weights, data or results than those on record",
            }
        )
    )
    _add_study(parser)
    overrides = parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the evaluators, and where data lie"
    )
    completes(overrides, "data override")
    parser.add_argument("--evaluators", required=True, metavar="NAMES", help="names, with commas between them")
    parser.add_argument(
        "--cell", action="append", default=[], metavar="ARM/sSEED", help="this cell alone; may be given again"
    )
    _add_configs(parser)
    parser.add_argument("--workers", type=count, default=1, metavar="K", help="cells at a time (default: 1)")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only the cells that are measured now")


def add_noise(parser: Parser) -> None:
    parser.description = (
        "Run the baseline of a study against itself, one half of the seeds against the other, and say how far runs "
        "differ by their seed alone, and which difference between arms n seeds can see. The runs are kept in "
        "FOLDER/noise/, on seeds that the study does not use, and later reports of the study tell the number. With "
        "overrides in place of a folder, one recipe is measured before there is a study. The same command again does "
        "what is missing."
    )
    parser.epilog = (
        "Examples:\n"
        "  paribus study noise experiments/quickstart --workers 2\n"
        "  paribus study noise experiment=cifar10_small steps=20ep --margin 0.5pt\n\n"
        + exit_codes(
            {
                OK: "every run is done, whatever was found",
                STUDY_FAILED: "runs have failed; the others are told",
                REQUEUE: "stopped, run again to resume",
            }
        )
    )
    what = parser.add_argument(
        "what", nargs="+", metavar="FOLDER|KEY=VALUE", help="a study's folder, or the overrides of a recipe"
    )
    completes(what, "study or override")
    parser.add_argument(
        "--seeds", type=count, metavar="N", help="runs in all, even, at least 4; more later adds runs (default: 10)"
    )
    parser.add_argument("--arm", metavar="NAME", help="which arm (default: the one that most are compared with)")
    action = parser.add_argument("--runs", type=path, metavar="DIR", help="run folders (default: runs/STUDY-noise)")
    completes(action, "folder")
    _add_workers(parser)
    parser.add_argument("--per-gpu", type=count, default=1, metavar="M", help="runs at a time on one GPU (default: 1)")
    _add_configs(parser)
    completes(
        parser.add_argument("--json", type=path, metavar="FILE", help="write all numbers as JSON; - prints them"),
        "file",
    )
    parser.add_argument("--plan", action="store_true", help="only compose, check and freeze the runs")
    parser.add_argument("--quiet", action="store_true", help="with --plan: print nothing")
    recipe = parser.add_argument_group("of a recipe")
    out = recipe.add_argument("--out", type=path, metavar="DIR", help="its folder (default: noise_EXPERIMENT)")
    completes(out, "folder")
    recipe.add_argument("--metric", metavar="KEY", help="default: val/acc1")
    recipe.add_argument("--margin", metavar="M", help="the smallest effect of interest, e.g. 0.5pt (default: none)")
    add_direction(recipe)
    parser.set_defaults(repeat=False, cluster=None, dry_run=False)


def add_report(parser: Parser) -> None:
    parser.description = (
        "Write the tables and a figure (differences.svg) into the study's README.md and make report.html, report.csv "
        "and report.json."
    )
    _add_study(parser, "where the run folders are whose rows are not recorded yet")
    parser.add_argument(
        "--wandb", action="store_true", help="send the same tables and figures to W&B as one run of the group"
    )
    add_gate_options(parser, "the smallest effect for maybe-worse and not-equivalent, else 0")


def add_import(parser: Parser) -> None:
    parser.description = "Import rows of runs from another machine. Each must be a cell of the plan."
    parser.epilog = exit_codes({OK: "the rows are recorded"})
    _add_folder(parser)
    found = parser.add_argument(
        "found", type=path, nargs="+", metavar="RUN|FILE", help="run folders, or a results.jsonl"
    )
    completes(found, "run or file")


def add_cancel(parser: Parser) -> None:
    parser.description = "Cancel the cells that are pending or running on a Slurm cluster."
    parser.epilog = exit_codes({OK: "cancelled, or nothing to cancel"})
    _add_study(parser)
    _add_repeat(parser, "those of the newest run --repeat")


def add_cell(parser: Parser) -> None:
    parser.description = "Train one cell inside a Slurm job; batch scripts call this."
    parser.epilog = exit_codes({FAILED: "the run failed", REQUEUE: "stopped with a checkpoint"})
    _add_study(parser)
    parser.add_argument("--cell", required=True, metavar="ARM/sSEED", help="which cell")
    parser.add_argument("--stage", choices=("tune",), default="", help="of the tuning, not of the study itself")
    parser.add_argument("--launcher", default="", metavar="COMMAND", help="what starts its processes, e.g. 'srun -n 8'")
    _add_repeat(parser, "DIR is the folder of a repeat, which gets the row")


def _add_folder(parser: Parser) -> None:
    folder = parser.add_argument(
        "study", type=path, metavar="FOLDER", help="the study's folder, e.g. experiments/quickstart"
    )
    completes(folder, "study")


def _add_study(parser: Parser, runs: str = "where the run folders are") -> None:
    _add_folder(parser)
    action = parser.add_argument("--runs", type=path, metavar="DIR", help=f"{runs} (default: runs/STUDY)")
    completes(action, "folder")


def _add_configs(parser: argparse.ArgumentParser) -> None:
    add_config_dir(
        parser, "a folder with your own configs; the plan keeps it, as config_dir: DIR in study.yaml does for everyone"
    )


def _add_workers(parser: argparse.ArgumentParser, help: str = "cells at a time (default: by cores or GPUs)") -> None:
    parser.add_argument("--workers", type=count, metavar="K", help=help)


def _add_repeat(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--repeat", action="store_true", help=what)
