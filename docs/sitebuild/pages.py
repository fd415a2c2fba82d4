"""Writes all generated pages, leaves those alone that are as they were, and deletes those that are no more."""

from pathlib import Path
from typing import Any

from paribus.study.report.html import make_environment
from sitebuild import api_pages, cli_pages, config_pages, copied_pages, result_pages


def build_pages(root: Path) -> dict[str, str]:
    """Name under docs/generated/ -> content."""
    pages = cli_pages.build_pages() | config_pages.build_pages() | api_pages.build_pages()
    return pages | result_pages.build_pages(root) | copied_pages.build_pages(root) | {"_static/colours.css": _colours()}


def write_pages(root: Path, folder: Path) -> None:
    pages = {folder / name: text for name, text in build_pages(root).items()}
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in pages]:
        path.unlink()
    for path, text in pages.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def mark_changed(app: Any, env: Any, names: list[str]) -> None:
    """The pages of the API have docstrings in them, of which Sphinx sees only the import."""
    names += [name for name in env.found_docs if name.startswith("generated/api/") and name not in names]


def _colours() -> str:
    """The reports' colours, for the theme's light and dark, whether the reader's system or its switch says so."""
    template = make_environment().get_template("colours.css.j2").render()
    light, dark = template.split("@media (prefers-color-scheme: dark)")
    bodies = [part[part.index("{", part.index(":root")) + 1 : part.rindex("}")] for part in (light, dark)]
    light, dark = bodies[0].strip(), bodies[1].partition("}")[0].strip()
    return (
        f"body {{ {light} }}\n"
        f'body[data-theme="dark"] {{ {dark} }}\n'
        f'@media (prefers-color-scheme: dark) {{ body:not([data-theme="light"]) {{ {dark} }} }}\n'
    )
