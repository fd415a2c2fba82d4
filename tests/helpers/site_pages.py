"""A built HTML site, read from its files: where links lead, what a page loads, which pages nothing leads to."""

import posixpath
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {  # what a browser fetches to show a page
    "script": "src",
    "img": "src",
    "source": "src",
    "iframe": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
}


@dataclass
class Page(HTMLParser):
    """links: of <a>. current: those of them that the side bar marks as the page itself. loaded: of what is fetched with
    the page. ids: what a # may name."""

    links: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.ids |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
            if "current" in found.get("class", "").split():
                self.current.append(found["href"])
        if tag == "link" and found.get("rel") not in ("next", "prev", "index", "search", "canonical"):
            self.loaded.append(found.get("href", ""))
        if tag in _LOADED and _LOADED[tag] in found:
            self.loaded.append(found[_LOADED[tag]])


def read_site(folder: Path) -> dict[str, Page]:
    """Name -> page."""
    pages: dict[str, Page] = {}
    for path in sorted(folder.rglob("*.html")):
        page = Page()
        page.feed(path.read_text(encoding="utf-8"))
        pages[path.relative_to(folder).as_posix()] = page
    return pages


def find_broken(folder: Path, pages: dict[str, Page]) -> list[str]:
    """Links within the site, and what pages load, that name no file or no place in one."""
    broken: list[str] = []
    for name, page in pages.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            target = name if not parts.path else target
            ids = pages[target].ids if target in pages else set[str]()
            anchor = unquote(parts.fragment)
            if not (folder / target).is_file() or (anchor and target in pages and anchor not in ids):
                broken.append(f"{name}: {link}")
    return broken


def find_external(folder: Path, pages: dict[str, Page]) -> list[str]:
    """What pages or their styles would fetch from elsewhere."""
    found = [f"{name}: {link}" for name, page in pages.items() for link in page.loaded if _is_elsewhere(link)]
    for path in sorted(folder.rglob("*.css")):
        text = path.read_text(encoding="utf-8").replace(" ", "").replace("'", "").replace('"', "")
        if any(f"{begin}{address}" in text for begin in ("url(", "@import") for address in ("http:", "https:", "//")):
            found.append(path.relative_to(folder).as_posix())
    return found


def _is_elsewhere(link: str) -> bool:
    parts = urlsplit(link)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def find_unreachable(pages: dict[str, Page], start: str = "index.html") -> list[str]:
    """Pages to which no chain of links leads from the first one."""
    reached, left = {start}, [start]
    while left:
        name = left.pop()
        for link in pages[name].links:
            parts = urlsplit(link)
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            if not parts.scheme and target in pages and target not in reached:
                reached.add(target)
                left.append(target)
    return sorted(pages.keys() - reached)
