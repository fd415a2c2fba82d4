"""The side bar, made once and marked for each page. The theme makes it anew for each, which is a third of the whole
build: it is the same on all of them but for the way to the top and for which entries are open."""

import re
from typing import Any

from furo.navigation import get_navigation_tree
from sphinx.application import Sphinx
from sphinx.environment.adapters.toctree import global_toctree_for_doc

_PARTS = re.compile(
    r'<li class="(?P<classes>[^"]*)">|(?P<end></li>)|<a class="reference internal" href="(?P<link>[^"]*)"'
)


def connect(app: Sphinx) -> None:
    made: list[str] = []  # as it is on the first page

    def before(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
        if not made:
            made.append(_make(app))
        context["toctree"] = lambda **options: ""

    def after(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
        context["furo_navigation_tree"] = mark(made[0], app.builder.get_target_uri(page))

    app.connect("html-page-context", before, priority=400)  # the theme's is 500
    app.connect("html-page-context", after, priority=600)


def _make(app: Sphinx) -> str:
    first = app.config.root_doc
    options = {"collapse": False, "includehidden": True, "maxdepth": -1, "titles_only": True}
    found = global_toctree_for_doc(app.env, first, app.builder, tags=app.tags, **options)
    return get_navigation_tree(app.builder.render_partial(found)["fragment"])


def mark(tree: str, page: str) -> str:
    """The tree of the first page, as it is on another one: `page`, a path from the top.

    >>> mark('<li class="toctree-l1"><a class="reference internal" href="a/b.html">B</a></li>', "a/b.html")
    '<li class="toctree-l1 current current-page"><a class="current reference internal" href="#">B</a></li>'
    >>> mark('<li class="toctree-l1"><a class="reference internal" href="a/b.html">B</a></li>', "a/c/d.html")
    '<li class="toctree-l1"><a class="reference internal" href="../../a/b.html">B</a></li>'
    """
    above = _find_above(tree, page)
    up = "../" * page.count("/")
    shown, done = [], 0
    for part in _PARTS.finditer(tree):
        shown.append(tree[done : part.start()])
        done = part.end()
        if part.start() in above:
            last = " current-page" if part.start() == above[-1] else ""
            shown.append(f'<li class="{part["classes"]} current{last}">')
        elif part["link"] == page:
            shown.append('<a class="current reference internal" href="#"')
        else:
            shown.append(part[0].replace('href="', f'href="{up}') if part["link"] else part[0])
    shown.append(tree[done:])
    # the box that opens an entry is the first after its link
    opened = re.compile(r'(<li class="[^"]* current[^"]*">(?:(?!<li).)*?<input )', re.DOTALL)
    return opened.sub(r'\1checked="" ', "".join(shown)) if above else "".join(shown)


def _find_above(tree: str, page: str) -> list[int]:
    """Where the entry of a page and those that it is under begin; [] if it has none."""
    inside: list[int] = []
    for part in _PARTS.finditer(tree):
        if part["classes"] is not None:
            inside.append(part.start())
        elif part["end"]:
            inside.pop()
        elif part["link"] == page:
            return inside
    return []
