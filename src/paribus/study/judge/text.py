"""A verdict for a terminal."""

from paribus.study.judge.judged import Judged
from paribus.study.judge.plot import draw_text
from paribus.study.report.model import Report, Table

_SHOWN = ("arms", "counts")  # sections whose tables are shown; the plot and the sentences say the rest


def format_text(judged: Judged, report: Report, *, width: int, ascii_only: bool = False) -> str:
    """For a terminal: what was judged and how, the verdicts, the plot, the arms."""
    parts = [report.title, "\n".join(f"  {name}: {text}" for name, text in report.facts)]
    parts.append("\n".join(f"* {verdict.said}\n  {verdict.numbers}" for verdict in report.verdicts))
    parts.append(draw_text(judged, width, ascii_only))
    for section in report.sections:
        if section.key in _SHOWN:
            parts += [format_aligned(table) for table in section.tables]
    parts += [*report.remarks, *(f"! {text}" for text in report.cautions)]
    parts += [f"! {text}" for text in _list_gone(judged)]
    return f"{parts[0]}\n" + "\n\n".join(parts[1:])


def _list_gone(judged: Judged) -> list[str]:
    gone = judged.gate().gone
    more = f" and {len(gone) - 6} more" if len(gone) > 6 else ""
    return [f"{', '.join(gone[:6])}{more}. They take their pairs along."] if gone else []


def format_aligned(table: Table) -> str:
    """Columns side by side, two blanks apart."""
    rows = [table.head, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(w) if i in table.left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
