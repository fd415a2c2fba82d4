"""The parts of the documentation site that are made when it is built: pages from the parser, the configs, the
docstrings and the recorded rows, all written to docs/generated/, which git ignores."""

from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

from sitebuild import docstrings, navigation, pages, source_pages

ROOT = Path(__file__).parents[2]


def setup(app: Sphinx) -> dict[str, bool]:
    (Path(app.srcdir) / "generated" / "_static").mkdir(parents=True, exist_ok=True)  # Sphinx looks before it is written
    app.connect("builder-inited", lambda app: pages.write_pages(ROOT, Path(app.srcdir) / "generated"), priority=100)
    app.connect("env-before-read-docs", pages.mark_changed)
    app.connect("autodoc-process-docstring", docstrings.process)
    app.connect("autodoc-process-signature", docstrings.process_signature)
    app.connect("autodoc-skip-member", docstrings.choose_member)
    app.connect("html-page-context", add_sorting)
    app.connect("html-collect-pages", lambda app: source_pages.collect(app, ROOT))
    navigation.connect(app)
    app.add_lexer("csv", TextLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_sorting(app: Sphinx, page: str, template: str, context: object, doctree: object) -> None:
    """Tables of results can be sorted and filtered."""
    if page == "results" or page.startswith("generated/results/"):
        app.add_js_file("sortable.js", loading_method="defer")
    if page in ("results", "generated/results/index"):
        app.add_css_file("wide.css", priority=900)
