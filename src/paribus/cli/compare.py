"""`paribus compare RUN... --against RUN...`: a study's statistics for run folders outside a study. No torch."""

import argparse
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paribus.cli.gate import parse_conditions, parse_margin_option, report_gate, run_gate
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.recipe.configs import check_config_dir, find_config_folder
from paribus.recipe.identity import computed_part
from paribus.recipe.overlays import keys_set_by
from paribus.study import rows as rows_file
from paribus.study.analysis.analysis import analyse
from paribus.study.analysis.question import AnalysisSpec
from paribus.study.plan import diff_recipes
from paribus.study.report.build import build_report
from paribus.study.report.markdown import escape_markdown, format_sentence, format_table
from paribus.study.rows import Row
from paribus.study.units import choose_direction

SHOWN = ("differences", "arms", "beside", "robustness", "overhead")


@dataclass(frozen=True)
class Side:
    """The runs on one side, which share a recipe except for the seed. technique_keys: those its techniques set.
    recipe: dotted where it is nested."""

    arm: str
    techniques: tuple[str, ...]
    technique_keys: Set[str]
    recipe: Mapping[str, Any]
    rows: tuple[Row, ...]


def run(args: argparse.Namespace) -> int:
    conditions, margin = parse_conditions(args), parse_margin_option(args, args.metric)
    folders = [*([check_config_dir(args.config_dir)] if args.config_dir else []), find_config_folder()]
    one, other = read_side(args.runs, folders), read_side(args.against, folders)
    if one.arm == other.arm:
        one, other = _renamed(one, f"{one.arm} (A)"), _renamed(other, f"{other.arm} (B)")
    _same_data(one, other)
    rows = (*one.rows, *other.rows)
    if not any(args.metric in row.metrics for row in rows):
        known = sorted({key for row in rows for key in row.metrics})
        raise ConfigError(f"--metric {args.metric}: no run has it; there are {', '.join(known) or 'none'}")
    analysis = analyse(
        AnalysisSpec(
            name=f"{one.arm} against {other.arm}",
            question=f"What is the effect of {one.arm} against {other.arm}?",
            arms={other.arm: other.techniques, one.arm: one.techniques},
            pairs=((one.arm, other.arm),),
            metric=args.metric,
            higher_is_better=choose_direction(args.metric, args.lower_is_better, args.higher_is_better),
            margin=margin or 0.0,
            factors={},
        ),
        rows,
    )
    report = build_report(analysis)
    unexplained = _unexplained(one, other)
    if unexplained:
        keys = format_list(f"{key} ({a} against {b})" for key, a, b in unexplained)
        caution = (
            f"The recipes differ in more than techniques and seed: {keys}. What is measured is their joint effect."
        )
        report = replace(report, cautions=(caution, *report.cautions), troubles=("recipes differ", *report.troubles))
    found = run_gate(args, analysis, conditions)
    print(f"## {report.title}\n")
    for verdict in report.verdicts:
        print(f"{format_sentence(verdict)}\n")
    for text in report.remarks:
        print(f"{escape_markdown(text)}\n")
    for text in report.cautions:
        print(f"> {escape_markdown(text)}\n")
    tables = [format_table(table) for s in report.sections if s.key in SHOWN for table in s.tables]
    print("\n\n".join(tables))
    return report_gate(args, analysis, report, found)


def read_side(paths: Sequence[Path], config_folders: Sequence[Path]) -> Side:
    """config_folders: the folders of configs in which techniques are looked up. Raises ConfigError for an unfinished
    run, a different recipe among them, or a duplicate seed."""
    folders = [path for path in paths if not _is_log(path, paths)]
    configs = {folder: runfolder.read_config(folder) for folder in folders}
    recipes = {folder: recipe_without_seed(config) for folder, config in configs.items()}
    first = folders[0]
    for folder in folders[1:]:
        if unlike := diff_recipes(recipes[first], recipes[folder]):
            keys = format_list(f"{key} is {was} and {now}" for key, was, now in unlike)
            raise ConfigError(
                f"{first} and {folder} are on the same side but differ in more than the seed: {keys}; "
                "compare them one by one"
            )
    techniques = tuple(configs[first].get("techniques") or ())
    arm = "+".join(techniques) or "baseline"
    rows: dict[int, tuple[Path, Row]] = {}
    for folder in folders:
        row = rows_file.read_row(folder, "", arm)
        if row is None:
            raise ConfigError(f"{folder}: has not finished; finish it or leave it out")
        if row.seed in rows:
            raise ConfigError(f"{rows[row.seed][0]} and {folder} both have seed {row.seed}; leave one of them out")
        rows[row.seed] = (folder, row)
    keys = find_technique_keys(first, techniques, config_folders)
    return Side(arm, techniques, keys, recipes[first], tuple(row for _, row in rows.values()))


def _is_log(path: Path, paths: Sequence[Path]) -> bool:
    """NAME.log beside the run folder NAME, which a shell's `*` names too."""
    return path.suffix == ".log" and path.is_file() and path.with_suffix("") in paths


def recipe_without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The result-changing part of a config, without the seed. Empty transforms count as absent; overlays add some."""
    try:
        computed = computed_part(config)
        return {key: value for key, value in computed.items() if key != "seed" and (key, value) != ("transforms", [])}
    except (KeyError, AttributeError) as error:
        raise ConfigError(f"{runfolder.CONFIG} is incomplete: {error}") from error


def _renamed(side: Side, arm: str) -> Side:
    return replace(side, arm=arm, rows=tuple(replace(row, arm=arm) for row in side.rows))


def _same_data(one: Side, other: Side) -> None:
    """On different test sets, a difference between runs would be one between images."""
    tested = [
        {name: size for name, size in row.sizes.items() if name != "train"} for row in (one.rows[0], other.rows[0])
    ]
    sources = [side.recipe.get("data") for side in (one, other)]
    kinds = [source.get("_target_") if isinstance(source, dict) else source for source in sources]
    if kinds[0] != kinds[1] or tested[0] != tested[1]:
        raise ConfigError(
            f"the two sides are evaluated on different data: {kinds[0]} {tested[0]} and {kinds[1]} {tested[1]}; "
            "their results cannot be compared"
        )


def _unexplained(one: Side, other: Side) -> list[tuple[str, Any, Any]]:
    """Keys in which the recipes differ and which no technique of either side sets: (key, one's, the other's)."""
    own = {key for side in (one, other) for key in side.technique_keys}
    found = diff_recipes(one.recipe, other.recipe)
    images = [side.rows[0].data_checksum for side in (one, other)]
    if images[0] != images[1] and one.recipe.get("data") == other.recipe.get("data"):
        found = [*found, ("the training images themselves", images[0][:12], images[1][:12])]
    return [(key, a, b) for key, a, b in found if not any(key == k or key.startswith(f"{k}.") for k in own)]


def find_technique_keys(folder: Path, techniques: Sequence[str], configs: Sequence[Path]) -> set[str]:
    """The keys that the techniques of a run set: as the run recorded them, or by the overlays in these folders for a
    run before that. Of a technique that is in none of them they are not known, and are then named as differences."""
    recorded = runfolder.read_json(folder / runfolder.SUMMARY).get("technique_keys", {})
    known = [recorded.get(name) or keys_set_by(name, configs) for name in techniques]
    return {key for keys in known for key in keys}
