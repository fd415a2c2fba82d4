"""`paribus plot RUN...`: the curves of runs as one picture or page. Needs no torch."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from paribus.cli.compare import find_technique_keys, recipe_without_seed
from paribus.cli.wandb import runs_under
from paribus.core import runfolder
from paribus.core.build import did_you_mean
from paribus.core.errors import ConfigError
from paribus.core.events import read_events
from paribus.core.exit_codes import OK
from paribus.core.formatting import format_count
from paribus.recipe.configs import find_config_folder
from paribus.study.analysis.curves import Band, compute_bands
from paribus.study.plan import flatten

DEFAULTS = ("train/loss", "val/acc1")
KINDS = ("png", "svg", "pdf", "html")
NAME = "curves.png"
NOTE = "line: mean over seeds; band: ± one standard deviation"
MAX_SETTINGS = 4  # in a label


@dataclass(frozen=True)
class Group:
    """Runs whose recipes differ in the seed alone, each seed once. name: of the recipe. recipe: flat, without the seed.
    technique_keys: the keys that its techniques set. runs: seed -> folder."""

    name: str
    recipe: Mapping[str, Any]
    techniques: tuple[str, ...]
    technique_keys: frozenset[str]
    runs: dict[int, Path]


def run(args: argparse.Namespace) -> int:
    folders = list(dict.fromkeys(folder for path in args.runs for folder in runs_under(path)))
    out = args.out or (folders[0] if len(folders) == 1 else Path()) / NAME
    if (kind := out.suffix.lower().removeprefix(".")) not in KINDS:
        raise ConfigError(f"--out: found {out}; the name should end in one of .{', .'.join(KINDS)}")
    groups = label_groups(group_runs(folders))
    records = {folder: read_events(folder / runfolder.EVENTS) for folder in folders}
    metrics = choose_metrics(args.metric, {key for record in records.values() for e in record for key in e["values"]})
    bands = {label: _compute_bands(group, records, metrics) for label, group in groups.items()}
    content = render(groups, bands, metrics, kind)
    try:
        with runfolder.create_folder(out.parent):
            runfolder.write_atomically(out, content)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}; choose another with --out FILE") from error
    lines = f"; {format_count(len(groups), 'line')}: {'; '.join(groups)}" if len(groups) > 1 else ""
    print(f"{out}: {', '.join(metrics)} of {format_count(len(folders), 'run')}{lines}")
    return OK


def group_runs(folders: Sequence[Path]) -> list[Group]:
    """The runs by recipe, in the order given. A seed that a recipe was run with twice begins another group."""
    groups: list[Group] = []
    for folder in folders:
        config = runfolder.read_config(folder)
        recipe, seed = flatten(recipe_without_seed(config)), int(config["seed"])
        name = str(config.get("name"))
        group = next((g for g in groups if (g.name, g.recipe) == (name, recipe) and seed not in g.runs), None)
        if group is None:
            techniques = tuple(config.get("techniques") or ())
            group = Group(
                name, recipe, techniques, frozenset(find_technique_keys(folder, techniques, [find_config_folder()])), {}
            )
            groups.append(group)
        group.runs[seed] = folder
    return groups


def label_groups(groups: Sequence[Group]) -> dict[str, Group]:
    """Label -> group: the name where there are several, its techniques, and the settings in which it differs from
    others of its name; the folder where that does not tell two groups apart."""
    labels = [_label(group, groups) for group in groups]
    found: dict[str, Group] = {}
    for label, group in zip(labels, groups, strict=True):
        first = next(iter(group.runs.values()))
        shown = f"{label} ({first})" if labels.count(label) > 1 else label
        found[f"{shown} ({len(group.runs)} seeds)" if len(group.runs) > 1 else shown] = group
    return found


def _label(group: Group, groups: Sequence[Group]) -> str:
    alike = [other for other in groups if other.name == group.name]
    name = [group.name] if len(alike) < len(groups) else []
    keys = [key for key in find_differing_keys(alike) if key in group.recipe]
    settings = [_format_setting(key, group.recipe[key]) for key in keys]
    if len(settings) > MAX_SETTINGS:
        settings = [*settings[:MAX_SETTINGS], "…"]
    several = len({other.techniques for other in alike}) > 1 or not (name or settings)
    return ", ".join([*name, *(["+".join(group.techniques) or "baseline"] if several else []), *settings])


def find_differing_keys(groups: Sequence[Group]) -> list[str]:
    """The keys in which groups differ, without what their techniques explain, and without the settings of a class where
    the class itself differs."""
    every = dict.fromkeys(key for group in groups for key in group.recipe)
    differing = [key for key in every if _count_values(groups, key) > 1]
    kept: list[str] = []
    for key in differing:
        explained = any(_covers(name, key) for group in groups for name in group.technique_keys) or "(order)" in key
        if explained and not _differs_within(groups, key, lambda group: group.techniques):
            continue
        target = f"{key.rpartition('.')[0]}._target_"
        of_one_class = target in differing and not all(key in group.recipe for group in groups)
        if of_one_class and not _differs_within(groups, key, partial(_get_setting, target)):
            continue
        kept.append(key)
    return kept


def _get_setting(key: str, group: Group) -> Any:
    return group.recipe.get(key)


def _differs_within(groups: Sequence[Group], key: str, kind: Callable[[Group], Any]) -> bool:
    """Whether groups of one kind differ in a key."""
    return any(_count_values([g for g in groups if kind(g) == kind(first)], key) > 1 for first in groups)


def _count_values(groups: Sequence[Group], key: str) -> int:
    return len({repr(group.recipe.get(key, "not there")) for group in groups})


def _covers(name: str, key: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _format_setting(key: str, value: Any) -> str:
    """As on the command line; a class by its last name."""
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    if value is None or isinstance(value, bool):
        return f"{key}={'null' if value is None else str(value).lower()}"
    return f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"


def choose_metrics(wanted: Sequence[str] | None, known: set[str]) -> list[str]:
    """Raises ConfigError for a metric that no run has."""
    for metric in wanted or ():
        if metric not in known:
            near, there = did_you_mean(metric, sorted(known)), ", ".join(sorted(known)) or "nothing yet"
            raise ConfigError(f"--metric {metric}: no run has it{near}; there is {there}")
    found = list(dict.fromkeys(wanted or (key for key in DEFAULTS if key in known)))
    if not found:
        raise ConfigError(f"no run has {' or '.join(DEFAULTS)} yet; --metric takes any of {', '.join(sorted(known))}")
    return found


def _compute_bands(
    group: Group, records: Mapping[Path, list[dict[str, Any]]], metrics: Sequence[str]
) -> dict[str, Band]:
    """Metric -> its mean over the group's seeds, and one standard deviation up and down."""
    curves = {
        seed: {
            key: points
            for key in metrics
            if (points := [[e["step"], e["values"][key]] for e in records[folder] if key in e["values"]])
        }
        for seed, folder in group.runs.items()
    }
    found = {key: compute_bands({"": curves}, key).get("") for key in metrics}
    return {key: band for key, band in found.items() if band is not None}


def render(
    groups: Mapping[str, Group], bands: Mapping[str, Mapping[str, Band]], metrics: Sequence[str], kind: str
) -> bytes:
    """The picture or page as a file's content."""
    from paribus.study.report.figures.overlay import choose_line_styles, draw_panels, draw_picture
    from paribus.study.report.figures.style import render_file, style_context
    from paribus.study.report.html import render_curves

    baseline = next((label for label, group in groups.items() if not group.techniques), None)
    styles = choose_line_styles(list(groups), baseline if len(groups) > 1 else None)
    title = _make_title(groups)
    note = NOTE if any(len(group.runs) > 1 for group in groups.values()) else ""
    if kind == "html":
        legend = [(label, style.colour, style.dashes) for label, style in styles.items()] if len(groups) > 1 else []
        return render_curves(title, legend, draw_panels(bands, metrics, styles), note).encode()
    with style_context():
        return render_file(draw_picture(bands, metrics, styles, title, note), kind)


def _make_title(groups: Mapping[str, Group]) -> str:
    """The name that the recipes share; of one run its whole name."""
    folders = [folder for group in groups.values() for folder in group.runs.values()]
    if len(folders) == 1:
        return folders[0].resolve().name
    names = list(dict.fromkeys(str(runfolder.read_config(folder).get("name")) for folder in folders))
    return ", ".join([*names[:3], "…"] if len(names) > 3 else names) + (
        f": {next(iter(groups))}" if len(groups) == 1 else ""
    )
