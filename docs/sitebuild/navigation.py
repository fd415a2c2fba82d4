"""The side bar of source pages, made once for each depth of folder: they are in no table of contents, so it differs in
its `../` alone. The theme makes it anew for each page, which is half of the time that a page takes."""

from typing import Any

from sphinx.application import Sphinx

from sitebuild.repo_links import SOURCES

TREE = "furo_navigation_tree"


def connect(app: Sphinx) -> None:
    made: dict[int, str] = {}  # depth -> HTML

    def before(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
        if page.startswith(f"{SOURCES}/") and page.count("/") in made:
            context["toctree"] = lambda **options: ""

    def after(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
        if page.startswith(f"{SOURCES}/"):
            context[TREE] = made.setdefault(page.count("/"), context[TREE])

    app.connect("html-page-context", before, priority=400)  # the theme's is 500
    app.connect("html-page-context", after, priority=600)
