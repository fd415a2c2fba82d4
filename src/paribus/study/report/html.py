"""report.html: one self-contained file that opens from disk and loads nothing. The same report and figures
give the same bytes. Its layout is in templates/report.html.j2.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paribus.study.report.model import Report
from paribus.study.report.wording import VERDICT_KINDS
from paribus.study.stats.verdict import Verdict

if TYPE_CHECKING:
    from jinja2 import Environment

    from paribus.study.report.figures.style import Plot

TEMPLATE, JUDGE_TEMPLATE, CURVES_TEMPLATE = "report.html.j2", "judge.html.j2", "curves.html.j2"


def render_html(report: Report, figures: Mapping[str, Sequence[tuple[str, str]]], template: str = TEMPLATE) -> str:
    """figures: key that a section names -> (what it fits: wide, narrow or "" for both; <svg>)."""
    from markupsafe import Markup

    environment = make_environment()
    environment.filters |= {"kind": classify_cell, "breakable": add_line_breaks, "base64": encode_base64}
    safe = {key: [(fits, Markup(svg)) for fits, svg in drawn] for key, drawn in figures.items()}
    return environment.get_template(template).render(report=report, figures=safe)


def render_curves(title: str, legend: Sequence[tuple[str, str, str]], plots: Sequence["Plot"], note: str) -> str:
    """The page of `paribus plot`. legend: label, colour, dashes ("" for a whole line) of each line."""
    from markupsafe import Markup

    from paribus.study.report.figures.style import to_variable

    drawn = [Markup(svg) for found in render_svgs(plots).values() for _, svg in found]
    lines = [(label, to_variable(colour), dashes) for label, colour, dashes in legend]
    template = make_environment().get_template(CURVES_TEMPLATE)
    return template.render(title=title, legend=lines, panels=drawn, note=note)


def make_environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def classify_cell(cell: str) -> str:
    """The kind of verdict in a table's cell; "" for any other cell."""
    if cell in ("sooner", "later"):
        return {"sooner": "better", "later": "worse"}[cell]
    if cell in ("failed", "missing"):
        return "worse" if cell == "failed" else "open"
    verdict = next((v for v in Verdict if cell == v.value), None)
    return VERDICT_KINDS[verdict] if verdict else "open" if cell.startswith(f"{Verdict.UNDECIDED} (") else ""


def encode_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def add_line_breaks(name: str) -> str:
    """A name that may wrap after a separator: long_names-of_arms."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<=[\w.])([_+-])(?=\w)", r"\1<wbr>", str(escape(name))))


def render_svgs(plots: Sequence["Plot"]) -> dict[str, list[tuple[str, str]]]:
    """The <svg>s of plots, as `render_html` takes them."""
    from paribus.study.report.figures import style

    found: dict[str, list[tuple[str, str]]] = {}
    with style.style_context():
        for plot in plots:
            drawn = found.setdefault(plot.key, [])
            drawn.append((plot.fits, style.render_svg(plot.figure, f"{plot.key} {len(drawn)}", plot.title)))
    return found
