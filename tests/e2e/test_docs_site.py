"""The documentation site: it builds without a warning, has a page for each command, config group and study, and asks
nothing of the network. The same settings refuse a wrong link, section, source file, and a page that nothing names."""

import csv
import doctest
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import paribus
from helpers.site_pages import find_broken, find_external, find_unreachable, read_site
from paribus.cli import tree

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "docs.sh"
OF_THEME = {"genindex.html", "py-modindex.html", "search.html"}  # which a script or the search box leads to


def list_commands(command: tree.Command, above: str = "") -> Iterator[str]:
    for sub in command.commands:
        if not sub.hidden:
            yield f"{above}{sub.name}"
            yield from list_commands(sub, f"{above}{sub.name}_")


def list_wanted_pages() -> set[str]:
    """From the code, the configs, the studies and docs/ themselves, so that what is added there is asked for here."""
    found = {f"generated/cli/{name}.html" for name in list_commands(tree.ROOT)}
    found |= {f"generated/config/{folder.name}.html" for folder in (ROOT / "configs").iterdir() if folder.is_dir()}
    found |= {f"generated/results/{path.parent.name}.html" for path in ROOT.glob("experiments/*/results.jsonl")}
    written = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "cards").glob("*.md")]
    return found | {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in written}


def test_the_site_builds_strictly_and_is_whole(tmp_path: Path) -> None:
    """One test, since workers would each build it again."""
    site = tmp_path / "site"
    done = subprocess.run(
        ["bash", str(SCRIPT), str(site)],
        env={**os.environ, "DOCTREES": str(tmp_path / "doctrees"), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = read_site(site)
    assert list_wanted_pages() - pages.keys() == set()
    assert find_broken(site, pages) == []
    assert find_external(site, pages) == []
    assert set(find_unreachable(pages)) - OF_THEME == set()
    wanted = list_wanted_pages() - {"index.html"}
    assert [name for name in wanted if pages[name].current.count("#") != 1] == [], "not once in the side bar"
    exported = {f"paribus.{name}" for name in paribus.__all__} - {"paribus.__version__"}
    called = {"paribus.runs": "paribus.runs.run.find_runs", "paribus.study": "paribus.study.results.open_study"}
    places = set[str]().union(*(page.ids for name, page in pages.items() if name.startswith("generated/api/")))
    assert {called.get(name, name) for name in exported} - places == set()
    imported = re.findall(r"^from (paribus[\w.]+) import (.+)$", (ROOT / "docs/extending.md").read_text(), re.MULTILINE)
    assert {f"{module}.{name}" for module, names in imported for name in names.split(", ")} - places == set()
    assert "Search.setIndex" in (site / "searchindex.js").read_text()
    downloads = {path.stem: path for path in (site / "_downloads").rglob("*.csv")}
    for path in ROOT.glob("experiments/*/results.jsonl"):
        rows = list(csv.DictReader(downloads[path.parent.name].read_text().splitlines()))
        assert len(rows) == len(path.read_text().splitlines())


# what a small project has, and how its pages are told to be wrong: page.md's text, and what the warning names
GOOD = "# Page\n\n## A section\n\n[index](index.md), [section](#a-section), [source](../src/code.py)\n"
FAULTS = {
    "good": (GOOD, ""),
    "link": (GOOD + "\n[x](none.md)\n", "none.md"),
    "anchor": (GOOD + "\n[x](index.md#none)\n", "'none'"),
    "own anchor": (GOOD + "\n[x](#none)\n", "none"),
    "source": (GOOD + "\n[x](../src/none.py)\n", "../src/none.py"),
    "folder": (GOOD + "\n[x](../experiments/none)\n", "../experiments/none"),
    "orphan": ("# Nobody names me\n", "toctree"),
}
BUILD_ALL = """
import io, json, sys
from contextlib import redirect_stderr
from sphinx.cmd.build import build_main
found = {}
for name in json.loads(sys.argv[1]):
    with redirect_stderr(io.StringIO()) as told:
        code = build_main([*sys.argv[2:], f"{name}/docs", f"{name}/out"])
    found[name] = code, told.getvalue()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def small_builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Each fault -> exit code and warnings, by docs/conf.py and the flags of docs.sh, without the generated pages."""
    where = tmp_path_factory.mktemp("small")
    for name, (page, _) in FAULTS.items():
        for folder in ("docs", "src"):
            (where / name / folder).mkdir(parents=True)
        named = "" if name == "orphan" else "```{toctree}\npage\n```\n"
        (where / name / "docs" / "index.md").write_text(f"# Index\n\n{named}")
        (where / name / "docs" / "page.md").write_text(page)
        (where / name / "src" / "code.py").touch()
    flags = re.findall(r"--[a-z-]+", SCRIPT.read_text().partition("python -m sphinx")[2].partition(" -b ")[0])
    options = [*flags, "-b", "dummy", "-c", str(ROOT / "docs"), "-D", "html_static_path=", "--no-color"]
    options += ["-D", "extensions=myst_parser,sitebuild.repo_links"]
    done = subprocess.run(
        [sys.executable, "-c", BUILD_ALL, json.dumps(list(FAULTS)), *options],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_small_project_without_a_fault_builds(small_builds: dict[str, tuple[int, str]]) -> None:
    assert small_builds["good"] == [0, ""]


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "good"])
def test_negative_control_a_fault_fails_the_build(fault: str, small_builds: dict[str, tuple[int, str]]) -> None:
    code, told = small_builds[fault]
    assert code != 0
    assert FAULTS[fault][1] in told


@pytest.mark.parametrize("name", ["cli_pages", "docstrings", "markdown", "navigation"])
def test_the_examples_in_docs_sitebuild_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    done = doctest.testmod(importlib.import_module(f"sitebuild.{name}"))
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize(
    ("body", "check", "found"),
    [
        ('<a href="b.html#there">', find_broken, []),
        ('<a href="none.html">', find_broken, ["a/index.html: none.html"]),
        ('<a href="b.html#none">', find_broken, ["a/index.html: b.html#none"]),
        ('<a href="#none">', find_broken, ["a/index.html: #none"]),
        ('<img src="none.png">', find_broken, ["a/index.html: none.png"]),
        ('<a href="https://example.org">', find_external, []),
        ('<script src="https://example.org/x.js">', find_external, ["a/index.html: https://example.org/x.js"]),
        ('<link rel="stylesheet" href="//example.org/x.css">', find_external, ["a/index.html: //example.org/x.css"]),
    ],
)
def test_negative_control_the_checks_see_what_is_wrong(body: str, check, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text(body)
    (tmp_path / "a" / "b.html").write_text('<p id="there">')
    assert check(tmp_path, read_site(tmp_path)) == found


def test_negative_control_a_page_that_nothing_leads_to_and_a_style_that_fetches_are_seen(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="b.html">')
    for name in ("b", "alone"):
        (tmp_path / f"{name}.html").write_text("")
    (tmp_path / "x.css").write_text('@import "https://example.org/fonts.css";')
    pages = read_site(tmp_path)
    assert find_unreachable(pages) == ["alone.html"]
    assert find_external(tmp_path, pages) == ["x.css"]
