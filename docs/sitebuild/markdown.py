"""Pieces of Markdown that the generated pages are made of."""

import re
from collections.abc import Collection, Iterable, Sequence

from paribus.study.report.markdown import escape_markdown


def code(text: str) -> str:
    """Text as code; for a table's cell as well.

    >>> code("a | b"), code("``x")
    ('`a \\\\| b`', '``` ``x ```')
    """
    ticks = "`" * (1 + max((len(found) for found in re.findall("`+", text)), default=0))
    inside = " ".join(text.split()).replace("|", r"\|")
    return f"{ticks}{inside}{ticks}" if len(ticks) == 1 else f"{ticks} {inside} {ticks}"


def prose(text: str) -> str:
    """A docstring's or a help's running text: what is between backticks stays code, the rest is escaped.

    >>> prose("a*b, `a*b`")
    'a\\\\*b, `a*b`'
    """
    parts = re.split(r"`([^`]+)`", text)
    return "".join(code(part) if i % 2 else escape_markdown(f"|{part}|")[2:-2] for i, part in enumerate(parts))


def block(text: str, language: str = "text") -> str:
    fence = "`" * max(3, 1 + max((len(found) for found in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> str:
    """Cells are Markdown already. numbers: the columns that are set to the right."""
    lines = [head, ["---:" if name in numbers else "---" for name in head], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def paragraphs(text: str) -> str:
    """Paragraphs as they are printed in a terminal: those with an indented line are kept as they stand."""
    found = [part for part in text.strip("\n").split("\n\n") if part.strip()]
    return "\n\n".join(
        block(part) if part.startswith(" ") or "\n " in part else prose(" ".join(part.split())) for part in found
    )


def toctree(names: Iterable[str], caption: str = "", hidden: bool = False) -> str:
    options = [f":caption: {caption}"] * bool(caption) + [":hidden:"] * hidden + [":maxdepth: 1"]
    return "\n".join(["```{toctree}", *options, "", *names, "```"])


def page(title: str, *parts: str, top: str = "") -> str:
    """top: options of the page, as `key: value`."""
    above = [f"---\n{top}\n---"] if top else []
    return "\n\n".join([*above, f"# {title}", *(part for part in parts if part)]) + "\n"
