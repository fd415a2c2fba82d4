"""`paribus cards`: the technique cards in docs/cards, checked against the code, or rewritten.

A card has two parts. Above the marker a person writes what to expect of the technique. The part below is generated from
single sources: the technique's own docstring, its settings from the dataclass, the paper's values, figures and BibTeX
from docs/cards/NAME.yaml, times from the last `paribus bench techniques --json` under experiments/bench, and what the
studies under experiments/ measured, with a picture of their rows, docs/cards/NAME.svg.
"""

import argparse
import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from paribus.cli.results import STUDIES, analyse_study
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.exit_codes import OK
from paribus.recipe.configs import find_config_folder
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.card_curves import draw_card_curves, find_studies
from paribus.study.report.markdown import escape_markdown
from paribus.study.report.results_table import build_claims, format_claims_table
from paribus.study.spec import RESULTS

BEGIN = "<!-- Below, `paribus cards --write` writes; change the code, NAME.yaml or experiments/bench instead. -->"
CARDS, TIMES = Path("docs/cards"), Path("experiments/bench")

_CURVES = (
    "Lines are means over seeds, shaded is one standard deviation to either side. Most studies read their test images "
    "once, after the last step: there, a thin line joins the two values of a seed, and bars are means. Training losses "
    "are of images as the arm trains on them. The rows were made by:"
)
_NO_STUDY = (
    "No study of this technique alone was made here, so there are no curves. `paribus new study` writes one to start "
    "from."
)
_MEASURED = (
    "Means over seeds at the last step, on held-out test images; the whole account of each study, with its "
    "setting, stands behind its name. *Undecided* names the seeds with which, at that scale, a difference of the "
    "margin is found in four studies of five and one of 0 called equivalent; it says nothing about another scale."
)


def run(args: argparse.Namespace) -> int:
    """Check that every card is up to date, print one, or write them."""
    cards = build_cards(Path.cwd())
    if args.name is not None and args.name not in cards:
        raise ConfigError(f"cards: there is no card {args.name}; there are {', '.join(cards)}")
    if args.name is not None:
        print(cards[args.name], end="")
        return OK
    files = {f"{name}.md": text for name, text in cards.items()}
    files |= {f"{name}.svg": picture for name, picture in build_pictures(Path.cwd()).items()}
    stale = [name for name, text in files.items() if _read_if_there(CARDS / name) != text]
    if args.write:
        for name in stale:
            (CARDS / name).write_text(files[name])
        print(f"{len(stale)} of {len(files)} files of {len(cards)} cards written")
        return OK
    if stale:
        raise RunFailed(f"cards not up to date: {', '.join(stale)}; paribus cards --write")
    print(f"{len(cards)} cards are up to date")
    return OK


def read_papers(root: Path) -> dict[str, Any]:
    """What the papers say, technique by technique: docs/cards/NAME.yaml."""
    found = sorted((root / CARDS).glob("*.yaml"))
    if not found:
        raise ConfigError(f"cards: no {CARDS}/NAME.yaml here; run it from the top of a checkout")
    return {path.stem: yaml.safe_load(path.read_text()) for path in found}


def build_cards(root: Path) -> dict[str, str]:
    """Every card of the checkout at `root`, up to date: what a person wrote, then what is generated."""
    papers = read_papers(root)
    measured, studies = list(_read_bench_files(root / TIMES)), _analyse_studies(root / STUDIES)
    cards: dict[str, str] = {}
    for name, paper in papers.items():
        path = root / CARDS / f"{name}.md"
        if not path.is_file() or BEGIN not in path.read_text():
            raise ConfigError(f"cards: {path.relative_to(root)} should have a part written by hand, then {BEGIN}")
        by_hand = path.read_text().partition(BEGIN)[0]
        cards[name] = f"{by_hand}{BEGIN}\n\n{build_card(name, paper, measured, studies)}\n"
    return cards


def build_pictures(root: Path) -> dict[str, str]:
    """The SVG of every card that has a study of its own."""
    studies = _analyse_studies(root / STUDIES)
    drawn = {name: draw_card_curves(name, studies) for name in read_papers(root)}
    return {name: picture for name, picture in drawn.items() if picture}


def build_card(
    name: str, paper: Mapping[str, Any], measured: list[tuple[str, dict[str, Any]]], studies: Sequence[Analysis]
) -> str:
    """The part below the marker. measured: (file, its data) of each saved bench. studies: all with recorded rows."""
    module = importlib.import_module(f"paribus.techniques.{paper['module']}")
    path = module.__name__.replace(".", "/") + ("/__init__.py" if hasattr(module, "__path__") else ".py")
    source = f"[`{module.__name__}`](../../src/{path})"
    parts = [f"## The technique\n\nFrom {source}, which is the reference:"]
    if shared := paper.get("account"):
        parts = [f"## The technique\n\n{source} is about [{shared}]({shared}.md) as well; the account stands there."]
    else:
        parts.append(f"```text\n{(module.__doc__ or '').strip()}\n```")
    parts.append("## Settings")
    parts += [_format_settings(name, getattr(module, cls), paper.get("settings", {})) for cls in paper["classes"]]
    parts += ["## Time", *_format_times(name, measured)]
    found = [claim for study in studies for claim in build_claims(study)]
    if about := [claim for claim in found if any(t == name or t.startswith(f"{name}_") for t in claim.techniques)]:
        parts += ["## What was measured here", format_claims_table(about, f"../../{STUDIES.as_posix()}"), _MEASURED]
    parts += ["## Curves and seeds", *_format_curves(name, studies)]
    parts += ["## What was published, and what was found here", _format_figures(paper["figures"])]
    parts += ["## To cite", f"```bibtex\n{paper['bibtex'].strip()}\n```"]
    return "\n\n".join(parts)


def _analyse_studies(studies: Path) -> list[Analysis]:
    """All with recorded rows."""
    found = (analyse_study(path.parent) for path in sorted(studies.glob(f"*/{RESULTS}")))
    return [study for study in found if not study.is_waiting]


def _read_if_there(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


def _format_curves(name: str, studies: Sequence[Analysis]) -> Iterator[str]:
    """The picture, how to read it, and of each study whose rows are in it the command and what it cannot show."""
    own = {study.spec.name: study.spec.limits for study in find_studies(name, studies)}
    if not own:
        yield _NO_STUDY
        return
    yield f"![{name}: each study's arm beside its baseline]({name}.svg)"
    yield _CURVES
    folder = STUDIES.as_posix()
    yield "\n".join(
        f"* [{s}](../../{folder}/{s}): `paribus study run {folder}/{s} --repeat`."
        + (f" Cannot show: {escape_markdown(limits)}" if limits else "")
        for s, limits in own.items()
    )


def _format_settings(name: str, cls: Any, published: Mapping[str, str]) -> str:
    """The fields of a config class: default here, value in the paper."""
    rows = [
        (f"`{f.name}`", _format_default(name, f.name, f.default), published.get(f.name, "not in it"))
        for f in fields(cls)
    ]
    head = f"`{cls.__name__}`: {' '.join((cls.__doc__ or '').split())}"
    return (
        head if not rows else f"{head}\n\n{_format_table(('setting', 'default here', 'the paper and its code'), rows)}"
    )


def _format_default(name: str, key: str, value: Any) -> str:
    if value is MISSING:
        overlay = find_config_folder() / "technique" / f"{name}.yaml"
        is_there = re.search(rf"^ +{key}:(?! *\?\?\?)", overlay.read_text(), re.MULTILINE)
        return f"that of [{name}.yaml](../../configs/technique/{name}.yaml)" if is_there else "to be given"
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _format_times(name: str, measured: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    kept = [(file, data, [c for c in data["cases"] if c["technique"] == name]) for file, data in measured]
    kept = [entry for entry in kept if entry[2]]
    if not kept:
        yield "Not measured: `paribus bench techniques` has no times of it that were kept."
    for file, data, cases in kept:
        machine = ", ".join(f"{key} {value}" for key, value in data["machine"].items() if value is not None)
        versions = ", ".join(f"{p} {v}" for p, v in data["packages"].items() if v is not None)
        yield f"{data['date']}, {machine}; {versions} ([every sample](../../{TIMES.as_posix()}/{file}))."
        rows = [_format_time_row(case, row) for case in cases for row in case["rows"] if row["seconds"] is not None]
        yield _format_table(("case", "implementation", "time", "ratio"), rows)
        yield from _format_targets(cases)


def _format_time_row(case: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, ...]:
    from paribus.core.formatting import format_duration

    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    return case["title"], f"`{row['name']}`", format_duration(row["seconds"]), ratio


def _format_targets(cases: list[dict[str, Any]]) -> Iterator[str]:
    from paribus.bench.harness.table import format_targets_table

    targets = [(case["title"], target) for case in cases for target in case["targets"]]
    if targets:
        yield format_targets_table(targets)


def _format_figures(figures: list[dict[str, str]]) -> str:
    columns = ("what", "published", "source", "here")
    for figure in figures:
        if set(figure) != set(columns):
            raise ConfigError(f"{CARDS}: a figure should have {', '.join(columns)}, found {', '.join(figure)}")
    return _format_table(columns, [tuple(str(figure[column]) for column in columns) for figure in figures])


def _format_table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    from paribus.bench.harness.table import format_table

    return format_table(titles, rows)


def _read_bench_files(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.glob("*.json")):
        data = json.loads(path.read_text())
        if data.get("format") == 1:
            yield path.name, data
