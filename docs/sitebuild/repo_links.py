"""Links from a page to what is not a page: a file of the repository, a folder of it, a study.

In the Markdown they are relative paths, which work in a checkout and on a code host. In the site a study is its page of
results, a config group its page of keys, and a file a page with its source. A path that does not exist is left to
MyST, which warns of it.
"""

import posixpath
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from sitebuild import copied_pages

SOURCES = "source"  # folder of the pages of sources in the site
LINKED = "linked_files"  # of a document's metadata


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(RepoLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class RepoLinks(SphinxTransform):
    default_priority = 5  # before Sphinx collects downloads

    def apply(self, **kwargs: Any) -> None:
        origins = copied_pages.list_origins()
        name = self.env.docname
        docs = Path(self.env.srcdir)
        folder = posixpath.dirname(origins.get(name, f"{docs.name}/{name}"))
        for node in list(
            self.document.findall(lambda n: isinstance(n, addnodes.pending_xref | addnodes.download_reference))
        ):
            if node.get("reftype") != "myst" or not (target := _find_target(node, docs)):
                continue
            if isinstance(target, Path):  # absolute
                path = posixpath.relpath(target.as_posix(), docs.parent.as_posix())
                anchor = node.get("reftargetid") or ""
            else:
                path, _, anchor = target.partition("#")
                path = posixpath.normpath(posixpath.join(folder, path))
            if path.startswith("..") or not (docs.parent / path).exists():
                continue
            if document := find_document(path, docs, origins):
                self._link_document(node, document, anchor)
            elif not path.startswith(f"{docs.name}/generated/"):
                self._link_source(node, path)

    def _link_document(self, node: nodes.Element, document: str, anchor: str) -> None:
        link = addnodes.pending_xref(
            refdomain="doc", reftype="myst", reftarget=document, reftargetid=anchor or None, refdoc=self.env.docname
        )
        link["refexplicit"] = node["refexplicit"]
        link.source, link.line = node.source, node.line
        link += node.children
        node.replace_self(link)

    def _link_source(self, node: nodes.Element, path: str) -> None:
        self.env.metadata[self.env.docname].setdefault(LINKED, set()).add(path)
        page = name_source(path, (Path(self.env.srcdir).parent / path).is_dir())
        uri = self.app.builder.get_relative_uri(self.env.docname, page)
        link = nodes.reference(refuri=uri, internal=True, classes=["source-file"])
        link += node.children
        node.replace_self(link)


def name_source(path: str, is_folder: bool) -> str:
    return f"{SOURCES}/{path}/index" if is_folder else f"{SOURCES}/{path}"


def _find_target(node: nodes.Element, docs: Path) -> str | Path:
    """What a link names: as it is typed, or the whole path without suffix of a Markdown file outside docs/; "" where
    it is a section of its own page or a page that MyST has found."""
    target = node["reftarget"]
    if node.get("refdomain") == "doc":
        outside = posixpath.isabs(target) or target.startswith("../")
        return Path(posixpath.normpath(docs / f"{target}.md")) if outside else ""
    if isinstance(node, addnodes.download_reference) or "/" in target or target.partition("#")[0].count("."):
        return target
    return ""


def find_document(path: str, docs: Path, origins: dict[str, str]) -> str:
    """The page of a path of the repository, or of the folder's README; "" if there is none."""
    parts = path.split("/")
    copies = {origin: name for name, origin in origins.items()}
    if path == "README.md":
        return "index"
    for one in (path, f"{path}/README.md"):
        if one in copies:
            return copies[one]
    if parts[0] == docs.name and path.endswith(".md"):
        return posixpath.relpath(path, docs.name).removesuffix(".md")
    if parts[0] == "experiments" and (parts[2:] in ([], ["README.md"])) and (docs.parent / path / "..").exists():
        study = f"generated/results/{parts[1]}" if len(parts) > 1 else "generated/results/index"
        return study if (docs / f"{study}.md").is_file() else ""
    if parts[0] == "configs" and len(parts) <= 2 and not path.endswith(".yaml"):
        return f"generated/config/{parts[1]}" if len(parts) == 2 else "generated/config/index"
    return ""
