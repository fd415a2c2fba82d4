"""Docstrings here are plain prose with formulas. Sphinx reads reStructuredText, so they are escaped: a paragraph with an
indented line is kept as it stands, an example is Python, `code` is code, and the rest is text."""

import re
import textwrap
from typing import Any


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's event autodoc-process-docstring, which wants the lines changed in place."""
    lines[:] = to_rest("\n".join(lines)).split("\n")


def to_rest(doc: str) -> str:
    """
    >>> print(to_rest("Mixes *two*: `a`.\\n\\n    x = a_\\n\\n>>> 1\\n1"))
    Mixes \\*two\\*: ``a``.
    <BLANKLINE>
    .. code-block:: text
    <BLANKLINE>
        x = a_
    <BLANKLINE>
    .. code-block:: pycon
    <BLANKLINE>
       >>> 1
       1
    <BLANKLINE>
    """
    parts = [part for part in re.split(r"\n[ \t]*\n", doc.strip("\n")) if part.strip()]
    return "\n\n".join(map(_convert, parts)) + "\n"


def _convert(part: str) -> str:
    if part.lstrip().startswith(">>>"):
        return f".. code-block:: pycon\n\n{textwrap.indent(textwrap.dedent(part), '   ')}"
    if part.startswith(" ") or re.search(r"\n ", part):
        before, indented = _split(part)
        return f"{before}.. code-block:: text\n\n{textwrap.indent(indented, '   ')}"
    return _escape(part)


def _split(part: str) -> tuple[str, str]:
    """Running text above a first indented line, and the rest."""
    lines = part.split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith(" "))
    flush = any(not line.startswith(" ") for line in lines[first:])
    if first == 0 or flush or first == 1:  # a hanging list: its alignment is what it says
        return "", part
    return f"{_escape(chr(10).join(lines[:first]))}\n\n", "\n".join(lines[first:])


def _escape(text: str) -> str:
    pieces = re.split(r"`([^`]+)`", " ".join(text.split()))
    shown = [f"``{p.strip()}``" if i % 2 else re.sub(r"([\\*`|_])", r"\\\1", p) for i, p in enumerate(pieces)]
    # a role or a literal needs space or punctuation around it
    return re.sub(r"(``[^`]+``)(?=\w)", r"\1\\ ", "".join(shown))
