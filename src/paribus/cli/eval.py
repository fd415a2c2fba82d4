"""`paribus eval RUN|CHECKPOINT|EXPORT`: evaluate a trained network again, as a whole or class by class."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paribus.cli.arguments.trained import EVAL_KEYS, split_run
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.evaluation import Findings
from paribus.core.exit_codes import OK
from paribus.engine import distributed
from paribus.runs import confusion
from paribus.runs.evaluation import Evaluation, open_evaluation
from paribus.runs.kept_images import Details, keep_images
from paribus.study.rows import read_notes


def run(args: argparse.Namespace) -> int:
    where, overrides = split_run(args, "run folder, checkpoint or export")
    if args.quiet and args.per_class and not args.out:
        raise ConfigError("--per-class: --quiet prints no table; --out DIR writes it to a file")
    world = distributed.from_environment()
    evaluation = open_evaluation(where, overrides, EVAL_KEYS, args.split, world, args.config_dir, args.tree_classes)
    findings = evaluation.measure()
    if world.is_main:
        if not args.quiet:
            other = f", on {' '.join(evaluation.other_data)}" if evaluation.other_data else ""
            print(f"{evaluation.found.name} after step {evaluation.found.checkpoint.step}{other}")
            if not findings.metrics and not findings.details and not (args.per_class or args.confusion):
                print(
                    "note: nothing measured, as no evaluators are chosen; evaluators=[NAME,...] does", file=sys.stderr
                )
        for key, value in sorted(findings.metrics.items()):
            print(f"{key} {value:.6f}" if args.quiet else f"  {key:<16} {value:.6f}")
        _write_details(evaluation, findings, where, args)
    if args.per_class or args.confusion:
        for split in args.split or ["val"]:
            _show_classes(evaluation, split, where, args)
    distributed.destroy_process_group()
    return OK


def _write_details(evaluation: Evaluation, findings: Findings, where: Path, args: argparse.Namespace) -> None:
    """Metrics, curves and tables as JSON, where --out asks for it or an evaluator has more than numbers."""
    if not (args.out or findings.details):
        return
    ending = "-".join(["eval", *_name_data(evaluation), *_name_weights(evaluation, where)])
    path = (args.out or evaluation.found.folder) / f"{ending}.json"
    try:
        with runfolder.create_folder(path.parent):
            details = keep_images(path.parent, findings.details, lambda name: f"{ending}-{name}.png")
            runfolder.write_json(path, {"metrics": findings.metrics, "details": details})
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; --out DIR chooses another folder") from error
    if not args.quiet:
        notes = read_notes(details).values()  # of what the numbers are, which are worth nothing without
        images = [path.parent / found["image"]["file"] for found in _list_images(details)]
        print("", *notes, *images, path, sep="\n", flush=True)


def _list_images(details: Details) -> list[Mapping[str, Any]]:
    return [node for found in details.values() for node in found.values() if "image" in node]


def _show_classes(evaluation: Evaluation, split: str, where: Path, args: argparse.Namespace) -> None:
    """Tables and the paths of the files; with --quiet the files alone."""
    counts, names = evaluation.count_confusion(split), evaluation.class_names()
    if evaluation.place.rank:
        return
    folder, shown = args.out or evaluation.found.folder, not args.quiet
    data = _name_data(evaluation)
    ending = "-".join([split, *data, *_name_weights(evaluation, where)])
    written: list[Path] = []
    if args.per_class:
        if shown:
            print("", f"{split}, by class", *confusion.format_per_class(names, counts), sep="\n")
        if args.out:
            written.append(confusion.write_per_class(folder / f"per_class-{ending}.csv", names, counts))
    if args.confusion:
        if shown and len(names) <= confusion.MOST_IN_TERMINAL:
            print("", f"{split}, confusion", *confusion.format_confusion(names, counts), sep="\n")
        title = ", ".join([evaluation.found.name, split, *data])
        written.append(confusion.write_confusion(folder / f"confusion-{ending}.csv", names, counts))
        written.append(confusion.draw_confusion(folder / f"confusion-{ending}.png", names, counts, title))
    if shown and written:
        print("", *written, sep="\n", flush=True)


def _name_data(evaluation: Evaluation) -> list[str]:
    """For file names: which data, other than the run's own; a folder by its last name."""
    given: dict[str, str] = {key: value for key, _, value in (o.partition("=") for o in evaluation.other_data)}
    folders = [given[key].strip("'\"") for key in ("data.root", "data.pack") if key in given]
    names = [Path(os.path.abspath(os.path.expanduser(folder))).name or "root" for folder in folders]
    return [*([given["data"]] if "data" in given else []), *names]


def _name_weights(evaluation: Evaluation, where: Path) -> list[str]:
    """For file names: which weights, other than those of the run's last step."""
    found = evaluation.found
    if found.export is not None:
        return [found.export.stem]
    return [f"step{found.checkpoint.step}"] if where.is_file() else []
