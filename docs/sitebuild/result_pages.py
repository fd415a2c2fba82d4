"""Pages of results, one for each study under experiments/ and one table of all comparisons, from the recorded rows
alone by the functions that make the reports. Nothing is trained."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from paribus.cli.results import analyse_study
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.build import build_report, choose_report_unit
from paribus.study.report.figures.curves import build_plots
from paribus.study.report.html import render_svgs
from paribus.study.report.markdown import escape_markdown, format_sentence, format_table
from paribus.study.report.model import Report, Section
from paribus.study.report.publish import format_csv
from paribus.study.report.results_table import build_beside_claims, build_claims, count_core_minutes
from paribus.study.spec import RESULTS
from sitebuild.markdown import block, code, page, table, toctree

FOLDER = "results"
UP = "../../.."
Svgs = Mapping[str, list[tuple[str, str]]]


def find_studies(root: Path) -> dict[str, Path]:
    """Every study that has recorded rows."""
    return {path.parent.name: path.parent for path in sorted((root / "experiments").glob(f"*/{RESULTS}"))}


def build_pages(root: Path) -> dict[str, str]:
    """Name in the site -> Markdown, and the rows to download."""
    folders = find_studies(root)
    analyses = {name: analyse_study(folder) for name, folder in folders.items()}
    pages = {f"{FOLDER}/{name}.md": build_page(a) for name, a in analyses.items()}
    pages |= {f"{FOLDER}/{name}.csv": format_csv(a) for name, a in analyses.items()}
    pages |= {f"{FOLDER}/{name}.jsonl": (folder / RESULTS).read_text() for name, folder in folders.items()}
    return pages | {f"{FOLDER}/index.md": _build_table(analyses)}


def build_page(a: Analysis) -> str:
    report, unit = build_report(a), choose_report_unit(a)
    figures = render_svgs(build_plots(a, unit))
    parts = [f"*{escape_markdown(report.question)}*", _format_verdicts(report)]
    parts += [escape_markdown(text) for text in report.remarks]
    parts += [f"```{{warning}}\n{escape_markdown(text)}\n```" for text in report.cautions]
    facts = [
        *report.facts,
        ("Cost", f"{len(a.rows)} runs, {_format_minutes(a)} core-minutes of training and evaluation"),
    ]
    parts.append("\n".join(f"* {escape_markdown(name)}: {escape_markdown(text)}" for name, text in facts))
    parts += [
        "## Rows and commands",
        f"Each run's row: {_format_downloads(a)}; the study: "
        f"[`study.yaml`]({UP}/experiments/{a.spec.name}/study.yaml). Train it again beside the runs on record, or "
        "write its report from them:",
        block("\n".join(report.again), "bash"),
        "One run of each arm:",
        block("\n".join(f"paribus train {' '.join(map(_quote, words))}" for words in _list_runs(a)), "bash"),
    ]
    parts += [text for section in report.sections for text in _format_section(section, figures)]
    parts.append("What each number means: [statistics](../../statistics.md); all studies: [the table](index.md).")
    return page(escape_markdown(report.title), *parts)


def _format_verdicts(report: Report) -> str:
    return "\n".join(f"* {format_sentence(verdict)}" for verdict in report.verdicts)


def _format_minutes(a: Analysis) -> str:
    return f"{count_core_minutes(a):,.0f}"


def _format_downloads(a: Analysis) -> str:
    return f"[CSV](path:{a.spec.name}.csv), [JSON lines](path:{a.spec.name}.jsonl)"


def _list_runs(a: Analysis) -> Iterator[list[str]]:
    for arm, own in a.spec.arms.items():
        seed = next((row.seed for row in a.rows if row.arm == arm), 0)
        yield [*a.spec.recipe, *own, f"seed={seed}"]


def _quote(word: str) -> str:
    """For a shell."""
    return word if re.fullmatch(r"[\w.,=+/@%:-]+", word) else f"'{word}'"


def _format_section(section: Section, figures: Svgs) -> Iterator[str]:
    yield f"## {escape_markdown(section.title)}"
    drawn = [
        f'<figure class="drawn{f" fits-{fits}" if fits else ""}">\n{svg}\n</figure>'
        for key in section.figures
        for fits, svg in figures.get(key, [])
    ]
    if drawn:
        pair = ' class="pair"' if len(drawn) > 1 and "fits-" not in "".join(drawn) else ""
        lines = "\n".join([f"<div{pair}>", *drawn, "</div>"])
        yield f"```{{raw}} html\n{lines}\n```"
    for one in section.tables:
        if one.caption:
            yield f"{escape_markdown(one.caption)}:"
        yield format_table(one)
    yield from (escape_markdown(note) for note in section.notes)


_HEAD = ("what was changed", "verdict", "difference", "95 % interval", "paper", "seeds", "metric", "study")
_HEAD = (*_HEAD, "core-minutes", "rows", "command")
_NUMBERS = ("difference", "95 % interval", "paper", "seeds", "core-minutes")


def _build_table(analyses: Mapping[str, Analysis]) -> str:
    rows = [row for a in analyses.values() for row in _list_rows(a)]
    intro = (
        "Every comparison on record, each against the same recipe without the change, on the same seeds; of "
        "accuracies, differences are in points. A heading sorts by its column. Core-minutes are those of the whole "
        "study, which the command trains again, beside the runs on record. What the papers' figures are of, each "
        "setting and its limits, and how to read it: [all results](../../results.md)."
    )
    body = table(_HEAD, rows, _NUMBERS)
    return page("Table of all comparisons", intro, body, toctree(analyses, hidden=True), top="hide-toc: true")


def _list_rows(a: Analysis) -> Iterator[tuple[str, ...]]:
    name = a.spec.name
    rest = (f"[{escape_markdown(name)}]({name}.md)", _format_minutes(a), _format_downloads(a))
    rest = (*rest, code(f"paribus study run experiments/{name} --repeat"))
    for what, paper, measured, interval, seeds, _, verdict, _ in (claim.cells for claim in build_claims(a)):
        yield (*_format_row(what, verdict, measured, interval, paper, seeds, a.spec.metric), *rest)
    for what, metric, paper, measured, interval, seeds, verdict, _ in build_beside_claims(a):
        yield (*_format_row(what, verdict, measured, interval, paper, seeds, metric), *rest)


def _format_row(what: str, verdict: str, measured: str, interval: str, paper: str, *rest: str) -> list[str]:
    """Numbers alone where words follow them: the points of a difference, the source of a paper's figure."""
    numbers = [measured.removesuffix(" points"), interval, paper.partition(":")[0]]
    return list(map(escape_markdown, [what, verdict, *numbers, *rest]))
