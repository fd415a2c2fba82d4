"""The report in Markdown: the part of a study's README.md between two markers, and what `paribus compare` prints.

Text outside the markers is never touched.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from paribus.core.errors import ConfigError
from paribus.study.report.model import Report, Section, Sentence, Table

BEGIN = "<!-- paribus report: begin. What stands up to its end is written by `paribus study report`. -->"
END = "<!-- paribus report: end -->"
FIGURE = "differences.svg"  # beside the README
_MARKER = re.compile(r"^[ \t]*<!-- paribus report: (begin|end)\b[^\n]*-->[ \t]*$", re.MULTILINE)


def build_readme(report: Report, before: str | None, path: Path, shows_figure: bool = False) -> str:
    """A README with this report in it. before: the existing one, None if there is none; path: of it, for messages.
    shows_figure: whether there is a figure beside it.

    Raises ConfigError where its markers are not exactly one begin and, after it, one end.
    """
    block = f"{BEGIN}\n\n{format_markdown(report, FIGURE if shows_figure else '')}\n{END}"
    if before is None:
        return f"# {report.name}\n\n{report.question}\n\n{block}\n"
    found = list(_MARKER.finditer(before))
    if not found:
        return f"{before.rstrip()}\n\n{block}\n" if before.strip() else f"{block}\n"
    if [marker[1] for marker in found] != ["begin", "end"]:
        markers = ", ".join(f"{m[1]} in line {before.count(chr(10), 0, m.start()) + 1}" for m in found)
        raise ConfigError(
            f"{path}: the markers of the report are damaged: found {markers}; should be one begin and then one end; "
            "repair them, or delete all of them and the report is appended"
        )
    return before[: found[0].start()] + block + before[found[1].end() :]


def format_markdown(report: Report, figure: str = "") -> str:
    """The verdicts, then the short sections. figure: the name of a file that shows the differences."""
    parts = [f"## {report.title}"]
    parts.append("\n".join(f"* {format_sentence(verdict)}" for verdict in report.verdicts))
    parts += [escape_markdown(text) for text in report.remarks]
    parts += [f"> {escape_markdown(text)}" for text in report.cautions]
    if figure:
        parts.append(f"![Each difference with its interval and verdict]({figure})")
    parts.append("\n".join(f"* {escape_markdown(name)}: {escape_markdown(text)}" for name, text in report.facts))
    parts += [_format_section(section) for section in report.sections if section.short]
    parts.append("### Make it again\n\n```bash\n" + "\n".join(report.again) + "\n```")
    parts.append(
        "With figures, robustness rows and every run: `report.html`; per run: `report.csv`; for programs: "
        "`report.json`. What each number means: `docs/statistics.md`."
    )
    return "\n\n".join(parts) + "\n"


def format_sentence(verdict: Sentence) -> str:
    why = f" {escape_markdown(verdict.why)}" if verdict.why else ""
    return f"**{escape_markdown(verdict.said)}** {escape_markdown(verdict.numbers)}{why}"


def _format_section(section: Section) -> str:
    parts = [f"### {escape_markdown(section.title)}"]
    for one in section.pictures:
        title, caption = escape_markdown(one.title), escape_markdown(one.caption)
        parts.append(f"**{title}**, {caption}\n\n![{title}]({quote(one.file)})")
    for table in section.tables:
        if table.caption:
            parts.append(f"{escape_markdown(table.caption)}:")
        parts.append(format_table(table))
    parts += [escape_markdown(note) for note in section.notes]
    return "\n\n".join(parts)


def format_table(table: Table) -> str:
    """Columns are padded, so that the source is readable too."""
    rows = [[escape_markdown(cell) for cell in row] for row in (table.head, *table.rows)]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(table.head))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            c.ljust(w) if i in table.left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if i in table.left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(rows[0]), line(rule), *(line(row) for row in rows[1:])])


def escape_markdown(text: str) -> str:
    """Text escaped for Markdown, on one line, so that it stays in its table cell."""
    return re.sub(r"([\\|*<>_`])", r"\\\1", " ".join(text.split()))
