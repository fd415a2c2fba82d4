"""A page for each file of the repository that a page links to, with its source in colours, and for each folder, with
its files. What is too long or no text is copied."""

import subprocess
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.application import Sphinx

from sitebuild.repo_links import LINKED, name_source

Page = tuple[str, dict[str, Any], str]
LONGEST = 120_000  # bytes that a page shows


def collect(app: Sphinx, root: Path) -> Iterator[Page]:
    """Sphinx's event html-collect-pages."""
    linked = {path for found in app.env.metadata.values() for path in found.get(LINKED, ())}
    folders = {path for path in linked if (root / path).is_dir()}
    files = {path for path in linked if (root / path).is_file()}
    for folder in sorted(folders):
        inside = list_files(root, folder)
        files |= set(inside)
        items = "".join(
            f'<li><a href="{escape(p.removeprefix(folder + "/"))}.html">{escape(p)}</a></li>' for p in inside
        )
        yield (
            name_source(folder, True),
            {"title": folder, "body": f"<h1>{escape(folder)}</h1><ul>{items}</ul>"},
            "page.html",
        )
    for file in sorted(files):
        yield name_source(file, False), {"title": file, "body": _show(app, root, file)}, "page.html"


def list_files(root: Path, folder: str) -> list[str]:
    """Those that git knows; outside a checkout, all."""
    done = subprocess.run(["git", "ls-files", folder], cwd=root, capture_output=True, text=True, check=False)
    found = done.stdout.splitlines() or [
        p.relative_to(root).as_posix() for p in sorted((root / folder).rglob("*")) if p.is_file()
    ]
    return [path for path in found if "__pycache__" not in path]


def _show(app: Sphinx, root: Path, file: str) -> str:
    title = f"<h1><code>{escape(file)}</code></h1>"
    data = (root / file).read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if len(data) > LONGEST or not text.strip():
        copy = Path(app.outdir) / name_source(file, False)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
        return f'{title}<p><a href="{escape(copy.name)}">The file</a> ({len(data):,} bytes).</p>'
    try:
        language = get_lexer_for_filename(file).aliases[0]
    except ClassNotFound:
        language = "text"
    return title + app.builder.highlighter.highlight_block(text, language, linenos="inline", force=True)
