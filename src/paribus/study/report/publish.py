"""The files of a report: README.md, its figure, report.html, report.csv, report.json in the study's folder.

All of them are built, and everything that could prevent writing is checked, before the first is written.
"""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from paribus.core.errors import ConfigError
from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.costs import COSTS
from paribus.study.pictures import Pictures
from paribus.study.report.build import choose_report_unit
from paribus.study.report.figures.curves import build_plots
from paribus.study.report.files import check_writable, write_file
from paribus.study.report.html import render_html, render_svgs
from paribus.study.report.markdown import FIGURE, build_readme
from paribus.study.report.model import Report
from paribus.study.report.study_figure import draw_study_figure
from paribus.study.stats import to_plain

SCHEMA = 1
README, HTML, CSV, JSON = "README.md", "report.html", "report.csv", "report.json"


def publish(folder: Path, analysis: Analysis, report: Report) -> Path:
    """Write all of them; returns the path of report.html. Raises ConfigError, and writes nothing, if one of them cannot
    be written or the README's markers are damaged."""
    readme = folder / README
    for name in (README, FIGURE, HTML, CSV, JSON):
        check_writable(folder / name)
    try:
        before = readme.read_text(encoding="utf-8") if readme.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{readme} cannot be read: {error}") from error
    figure = draw_study_figure(analysis)
    contents = {README: build_readme(report, before, readme, bool(figure))}
    contents |= {FIGURE: figure} if figure else {}
    contents |= {
        CSV: format_csv(analysis),
        JSON: json.dumps(build_json(analysis, report), indent=1, allow_nan=False) + "\n",
        HTML: render_html(report, render_svgs(build_plots(analysis, choose_report_unit(analysis)))),
    }
    for name, text in contents.items():
        write_file(folder / name, text)
    return folder / HTML


def format_csv(a: Analysis) -> str:
    """One row per run: its metrics at the last step and those measured since, its best evaluation, its cost, and its
    provenance."""
    values = {row.cell: {**a.beside.measured.get(row.cell, {}), **row.metrics} for row in a.rows}
    metrics = sorted({key for found in values.values() for key in found})
    prints = sorted({key for row in a.rows for key in row.fingerprint})
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    best = f"{a.spec.metric} best (diagnostic)"
    head = ["study", "arm", "seed", "state", "id", *metrics, best, *COSTS, "steps", "segments", "mixed", "started"]
    table.writerow([*head, "commit", "dirty", *(f"fingerprint {key}" for key in prints), "cpu", "cores", "gpu", "why"])
    choose = max if a.spec.higher_is_better else min
    for row in a.rows:
        curve = [value for _, value in row.curves.get(a.spec.metric, [])]
        table.writerow(
            _format_cell(value)
            for value in (
                *(a.spec.name, row.arm, row.seed, row.state, row.id),
                *(values[row.cell].get(key) for key in metrics),
                choose(curve) if curve else None,
                *(row.cost.get(kind) for kind in COSTS),
                *(row.steps, row.segments, row.mixed, row.started, row.commit, row.dirty),
                *(row.fingerprint.get(key) for key in prints),
                *(row.hardware.get(key) for key in ("cpu", "cores", "gpu")),
                row.why,
            )
        )
    return out.getvalue()


def _format_cell(value: Any) -> str:
    """repr keeps every bit of a float."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def build_json(a: Analysis, report: Report) -> dict[str, Any]:
    """Every number of the analysis (null: undefined) and the words of the report."""
    words = {
        "title": report.title,
        "verdicts": [{"kind": v.kind, "said": v.said, "numbers": v.numbers, "why": v.why} for v in report.verdicts],
        "remarks": list(report.remarks),
        "cautions": list(report.cautions),
        "tables": {
            section.key: [
                {"caption": t.caption, "head": list(t.head), "rows": [list(r) for r in t.rows]} for t in section.tables
            ]
            for section in report.sections
        },
    }
    numbers = to_plain(replace(a, pictures=Pictures()))
    del numbers["pictures"]  # the files are in samples/
    if not a.notes:  # as it was before evaluators said anything
        del numbers["notes"]
    for row in numbers["rows"]:
        if not row["notes"]:
            del row["notes"]
    asked = numbers.pop("spec")
    if a.interims is None:  # as it was before there were planned looks
        del asked["sequential"], numbers["interims"]
    if a.noise is None:
        del numbers["noise"]
    del asked["tuning"]  # it is an answer
    if a.tuning is None:
        del numbers["tuning"]
    if not a.spec.also:  # as it was before there were secondary metrics
        del asked["also"]
        for said in (*asked["paper"], *(said for said, _ in numbers["reported"])):
            del said["metric"]
        if not a.beside.measured and not a.beside.other_row and not a.beside.several:
            del numbers["beside"]
    return {"schema": SCHEMA, "report": words, "asked": asked, **numbers}
