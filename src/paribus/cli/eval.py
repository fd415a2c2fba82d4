"""`paribus eval RUN|CHECKPOINT|EXPORT`: evaluate a trained network again, as a whole or class by class."""

import argparse
from pathlib import Path

from paribus.cli.arguments.trained import EVAL_KEYS, split_run
from paribus.core.exit_codes import OK
from paribus.engine import distributed
from paribus.runs import confusion
from paribus.runs.evaluation import Evaluation, open_evaluation


def run(args: argparse.Namespace) -> int:
    where, overrides = split_run(args, "run folder, checkpoint or export")
    world = distributed.from_environment()
    evaluation = open_evaluation(where, overrides, EVAL_KEYS, args.split, world, args.config_dir)
    metrics = evaluation.measure()
    if world.is_main:
        other = f", on {' '.join(evaluation.other_data)}" if evaluation.other_data else ""
        print(f"{evaluation.found.name} after step {evaluation.found.checkpoint.step}{other}")
        for key, value in sorted(metrics.items()):
            print(f"  {key:<16} {value:.6f}")
    if args.per_class or args.confusion:
        for split in args.split or ["val"]:
            _show_classes(evaluation, split, where, args)
    distributed.destroy_process_group()
    return OK


def _show_classes(evaluation: Evaluation, split: str, where: Path, args: argparse.Namespace) -> None:
    counts, names = evaluation.count_confusion(split), evaluation.class_names()
    if evaluation.place.rank:
        return
    folder = args.out or evaluation.found.folder
    ending = _name_evaluation(evaluation, split, where)
    if args.per_class:
        print("", f"{split}, by class", *confusion.format_per_class(names, counts), sep="\n")
        if args.out:
            print(confusion.write_per_class(folder / f"per_class-{ending}.csv", names, counts))
    if args.confusion:
        if len(names) <= confusion.MOST_IN_TERMINAL:
            print("", f"{split}, confusion", *confusion.format_confusion(names, counts), sep="\n")
        title = f"{evaluation.found.name}, {split}"
        print()
        print(confusion.write_confusion(folder / f"confusion-{ending}.csv", names, counts))
        print(confusion.draw_confusion(folder / f"confusion-{ending}.png", names, counts, title), flush=True)


def _name_evaluation(evaluation: Evaluation, split: str, where: Path) -> str:
    """For file names: what else than the run's last step on its own data was evaluated stands in them."""
    found = evaluation.found
    parts = [split, *(o.partition("=")[2] for o in evaluation.other_data if o.startswith("data="))]
    if found.export is not None:
        parts.append(found.export.stem)
    elif where.is_file():
        parts.append(f"step{found.checkpoint.step}")
    return "-".join(parts)
