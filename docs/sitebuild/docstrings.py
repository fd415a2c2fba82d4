"""Docstrings here are plain prose with formulas. Sphinx reads reStructuredText, so they are escaped: a paragraph with
an indented line is kept as it stands, an example is Python, `code` is code, parameters make a list."""

import inspect
import re
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from paribus.recipe.key_docs import parse_docstring


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's event autodoc-process-docstring, which wants the lines changed in place."""
    lines[:] = to_rest("\n".join(lines), _list_names(obj)).split("\n")


def process_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None] | None:
    """Sphinx's event autodoc-process-signature. A protocol has none: nobody makes one, and its `__call__` is shown.
    Defaults are made readable for Sphinx, which else sets the whole as plain text."""
    if what == "class" and getattr(obj, "_is_protocol", False):
        return "", ""
    if signature is None or "<" not in signature:
        return None
    return re.sub(r"<(?:function|factory)[^>]*>", "...", re.sub(r"<class '([\w.]+)'>", r"\1", signature)), returned


def choose_member(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Whether a member is left out; None: as Sphinx has it, which leaves out those without a docstring. A protocol's
    verbs often have none: their signature says it."""
    if (isinstance(obj, type) or inspect.isfunction(obj)) and obj.__name__ != name:
        return True  # a field's default
    ours = inspect.isfunction(obj) and obj.__module__.startswith("paribus.")
    return False if ours and (name == "__call__" or not name.startswith("_")) else None


def _list_names(thing: Any) -> list[str]:
    """What a docstring may describe as `NAME: text.`: parameters and fields."""
    names = list(getattr(thing, "__annotations__", ()))
    with suppress(TypeError, ValueError):  # a property, a constant
        names += inspect.signature(thing).parameters
    return [name for name in dict.fromkeys(names) if name not in ("self", "return")]


def to_rest(doc: str, names: Sequence[str] = ()) -> str:
    """names: of parameters, whose descriptions make a list.

    >>> print(to_rest("A net. width: channels, at least 1. depth: of a stage.", ["width", "depth"]))
    A net.
    <BLANKLINE>
    * **width**: channels, at least 1.
    * **depth**: of a stage.
    <BLANKLINE>
    >>> print(to_rest("Mixes *two* of `a`."), end="")
    Mixes \\*two\\* of ``a``.
    """
    parts = [part for part in re.split(r"\n[ \t]*\n", doc.strip("\n")) if part.strip()]
    return "\n\n".join(_convert(part, names) for part in parts) + "\n"


def _convert(part: str, names: Sequence[str]) -> str:
    if part.lstrip().startswith(">>>"):
        return f".. code-block:: pycon\n\n{textwrap.indent(textwrap.dedent(part), '   ')}"
    if part.startswith(" ") or re.search(r"\n ", part):
        before, indented = _split(part)
        return f"{before}.. code-block:: text\n\n{textwrap.indent(indented, '   ')}"
    return _list_parameters(part, names)


def _list_parameters(part: str, names: Sequence[str]) -> str:
    summary, texts = parse_docstring(part, names)
    if not names or not texts:
        return _escape(part)
    last, _, after = texts[list(texts)[-1]].partition(". Raises ")  # it is about the whole
    if after:
        texts[list(texts)[-1]] = f"{last}."
    together: dict[str, list[str]] = {}  # text -> the names that share it
    for name, text in texts.items():
        together.setdefault(text, []).append(name)
    items = [
        f"* {', '.join(f'**{_escape(name)}**' for name in found)}: {_escape(text)}" for text, found in together.items()
    ]
    parts = [_escape(summary), "\n".join(items), _escape(f"Raises {after}") if after else ""]
    return "\n\n".join(filter(None, parts))


def _split(part: str) -> tuple[str, str]:
    """Running text above a first indented line, and the rest."""
    lines = part.split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith(" "))
    flush = any(not line.startswith(" ") for line in lines[first:])
    if first == 0 or flush or first == 1:  # a hanging list: its alignment is what it says
        return "", part
    return f"{_escape(chr(10).join(lines[:first]))}\n\n", "\n".join(lines[first:])


def _escape(text: str) -> str:
    """
    >>> _escape("the `a`s of *b*, `c`")
    'the ``a``\\\\ s of \\\\*b\\\\*, ``c``'
    """
    pieces = re.split(r"`([^`]+)`", " ".join(text.split()))
    shown = [f"``{p.strip()}``" if i % 2 else re.sub(r"([\\*`|_])", r"\\\1", p) for i, p in enumerate(pieces)]
    for i in range(2, len(shown), 2):  # a literal needs space or punctuation behind it
        if re.match(r"\w", shown[i]):
            shown[i] = f"\\ {shown[i]}"
    return "".join(shown)
