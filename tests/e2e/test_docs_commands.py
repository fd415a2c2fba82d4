"""Every command in the documentation is run by a test, or marked as one that needs what CI lacks.

Pages are found, not listed. Their blocks of bash and console run from the top of the page in a folder of their own
(helpers/doc_folder.py), as they stand but for what helpers/doc_runner.py says on trainings. A block that CI cannot run
has a mark (helpers/doc_pages.py) and is read by the command's own parser, as are commands in running text. What a block
of console shows is compared with what is printed. Python blocks run too, those of a page in one scope.
"""

import json
from pathlib import Path

import pytest

from helpers.doc_folder import lay_out, make_stock
from helpers.doc_pages import parse_page
from helpers.doc_runner import ROOT, Run, matches
from paribus.cli.main import dispatch

PATTERNS = (
    *("README.md", "CONTRIBUTING.md", "docs/**/*.md", "scripts/**/*.md", "examples/**/*.md"),
    *("experiments/*.md", "experiments/*/README.md"),
)
LEFT_OUT = ("experiments/LOG.md",)  # a record of decisions: its commands are those of their day
FOUND = {str(path.relative_to(ROOT)) for pattern in PATTERNS for path in ROOT.glob(pattern)} - {*LEFT_OUT}
# what the build of the site makes is made of the code and of pages that are here themselves
PAGES = sorted(name for name in FOUND if not name.startswith(("docs/generated/", "docs/_build/")))
# the pages of studies end in the same two commands, which `paribus study report` writes; they are run on this one
WRITTEN, WRITTEN_AND_RUN = "experiments/", "experiments/quickstart/README.md"
QUICKSTART = "paribus train experiment=quickstart technique=cutmix"


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        return make_stock(tmp_path_factory.mktemp("docs") / "stock", patch)


def run(name: str, text: str, here: Path, stock: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a page in a new folder."""
    page = Run(parse_page(name, text, ROOT), lay_out(here, stock, text), monkeypatch)
    page.run(read_only=name.startswith(WRITTEN) and name != WRITTEN_AND_RUN)
    return page


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_says_works(name: str, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = run(name, (ROOT / name).read_text(), tmp_path / "reader", stock, monkeypatch)
    assert not page.faults, "\n".join(page.faults)
    if name == "README.md":
        assert page.scope["targets"].shape == (8, 10)  # type: ignore[attr-defined]
        assert any(command.text.startswith(QUICKSTART) for command in page.page.commands())
        assert read_accuracy(page.here) >= 0.97
    if name == "docs/extending.md":
        titles = {path.parent.name.rpartition("-s0-")[0] for path in page.here.glob("runs/*/DONE")}
        assert {"quickstart-mine", "lab-baseline", "smoke-baseline", "run-baseline"} <= titles
        (lab,) = page.here.glob("runs/lab-*/summary.json")
        assert "val/confidence" in lab.read_text()


def read_accuracy(here: Path) -> float:
    """Of the README's quick start, which may have been shortened; then it is trained in full."""
    before = {*here.glob("runs/*")}
    found = next((f for f in before if is_full(f)), None)
    if found is None:
        assert dispatch([*QUICKSTART.split()[1:], "runtime.threads=1"]) == 0
        (found,) = {*here.glob("runs/*")} - before
    return json.loads((found / "summary.json").read_text())["metrics"]["val/acc1"]


def is_full(folder: Path) -> bool:
    done = folder.name.startswith("quickstart-cutmix-s0-") and (folder / "DONE").exists()
    return done and json.loads((folder / "summary.json").read_text())["steps"] == 660


def test_pages_and_their_commands_are_found() -> None:
    """Else the test above would pass on nothing."""
    assert {"README.md", "CONTRIBUTING.md", "docs/python.md", "docs/cards/cutmix.md", WRITTEN_AND_RUN} <= {*PAGES}
    pages = {name: parse_page(name, (ROOT / name).read_text(), ROOT) for name in PAGES}
    assert len(pages["docs/evaluation.md"].commands()) >= 15
    assert len(pages["docs/command_line.md"].inline) >= 30
    assert sum(command.shown is not None for command in pages["docs/judging.md"].commands()) == 4
    assert sum(bool(command.reason) for page in pages.values() for command in page.commands()) >= 5


GOOD = """\
# A page

`paribus study run FOLDER --workers K` and `paribus eval` as well as `paribus verify RUN [--study DIR]`.

```bash
paribus judge results.csv \\
    --against baseline            # a table
paribus judge results.csv --against nobody     # exit code 2: there is no such arm
```

<!-- not run where --download: needs a download -->
<!-- not run where pip: changes the machine -->
```bash
pip install -e '.[dev]'
paribus data prepare imagenette --root DIR --download
paribus data check folder --root photos
```

`mine/said.csv`:

```csv
arm,seed,acc
a,0,0.5
b,0,0.5
```

```console
$ paribus judge mine/said.csv --against a --fail-if worse
mine/said.csv
…
gate: FAIL where the condition holds
  FAIL  b against a, …: cannot be tested: 1 usable seeds, …
$ echo $?
1
$ cat mine/said.csv | wc -l
3
```

```python
answer = 6 * 7
```
"""


def test_a_page_may_join_lines_state_exit_codes_write_files_and_leave_out(
    stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = run("good.md", GOOD, tmp_path / "reader", stock, monkeypatch)
    assert not page.faults, "\n".join(page.faults)
    assert page.scope["answer"] == 42
    assert [command.reason for command in page.page.commands() if command.reason] == [
        "changes the machine",
        "needs a download",
    ]


WRONG = {  # a change of the page above: what stands in the place of what, and what is said of it
    "an unknown flag in running text": ("--workers K", "--workerz K", "study run has no --workerz"),
    "an unknown command in running text": ("`paribus eval`", "`paribus evaluat`", "no such command"),
    "a command that fails": ("against baseline ", "against nobody ", "exit code 2, not 0"),
    "another exit code": ("exit code 2", "exit code 3", "exit code 2, not 3"),
    "a misspelt flag under a mark": ("--root DIR --download", "--rot DIR --download", "data prepare has no --rot"),
    "a reason of one's own": ("needs a download", "lazy", "found 'lazy'; should be one of needs a GPU"),
    "a mark for no line": ("where --download", "where --upload", "no line of the block has that"),
    "a mark that a sentence follows": ("```bash\npip", "So:\n\n```bash\npip", "a mark is not followed by a block"),
    "an installation without a mark": ("where pip", "where check", "pip is not run by tests; mark the block"),
    "an extra that is not there": (".[dev]", ".[devel]", "there is no extra devel"),
    "another text printed": ("  FAIL  b", "  FAIL  c", "does not print what the page shows"),
    "another number printed": ("\n3\n", "\n4\n", "does not print what the page shows"),
    "another exit code shown": ("$?\n1", "$?\n0", "exit code 1, not 0"),
    "Python that fails": ("6 * 7", "six * 7", "NameError: name 'six' is not defined"),
    "a command that is only indented": ("```python\nan", "    paribus list runs\n\n```python\nan", "only indented"),
    "a block that says no kind": ("```bash\npip", "```\npip", "does not say bash or console"),
    "a file that is gone": (
        "`paribus eval`",
        "`python -m pytest tests/test_gone.py`",
        "there is no tests/test_gone.py",
    ),
    "a test that is gone": ("needs a download", "tests/test_gone.py runs it", "tests/test_gone.py is not there"),
    "a key in a training that is not run": ("`paribus eval`", "`paribus train experiment=smoke stepz=2ba`", "stepz"),
}


@pytest.mark.parametrize("what", WRONG)
def test_negative_control_it_is_found(what: str, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, instead, said = WRONG[what]
    assert GOOD.count(there) == 1
    page = run("wrong.md", GOOD.replace(there, instead), tmp_path / "reader", stock, monkeypatch)
    assert any(said in fault for fault in page.faults), page.faults


def test_what_is_shown_may_leave_out_parts() -> None:
    said = "one 1.25\ntwo 0.5\nthree\n"
    assert matches(said, said)
    assert matches("one …\n…\nthree\n", said)
    assert matches("…\n", said)
    assert matches("p = 1\n", "p\xa0=\xa01  \n\n")
    assert not matches("one …\nthree\n", said)
    assert not matches("one 1.25\n", said)
    assert not matches("one ….25 two\n…\n", said)
