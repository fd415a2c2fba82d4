"""Every command in the documentation is run by a test, or marked as one that needs what CI lacks.

Pages are found, not listed. Their blocks of bash and console run from the top of the page in a folder of their own
(helpers/doc_folder.py), as they stand but for what helpers/doc_runner.py says on trainings. A block that CI cannot run
has a mark (helpers/doc_pages.py) and is read by the command's own parser, as are commands in running text. What a block
of console shows is compared with what is printed. Python blocks run too, those of a page in one scope.
"""

from pathlib import Path

import pytest

from helpers.doc_folder import lay_out, make_stock
from helpers.doc_pages import Page, parse_page, read_page
from helpers.doc_runner import ROOT, Run, matches

PATTERNS = (
    *("README.md", "CONTRIBUTING.md", "docs/*.md", "docs/**/*.md", "scripts/**/*.md", "examples/**/*.md"),
    *("experiments/*.md", "experiments/*/README.md"),
)
NOT_DOCUMENTATION = ("experiments/LOG.md",)  # a record of decisions: its commands are those of their day
PAGES = sorted({str(path.relative_to(ROOT)) for pattern in PATTERNS for path in ROOT.glob(pattern)})
PAGES = [name for name in PAGES if name not in NOT_DOCUMENTATION]


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        return make_stock(tmp_path_factory.mktemp("docs") / "stock", patch)


def run(page: Page, text: str, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    found = Run(page, lay_out(tmp_path / "reader", stock, text), monkeypatch)
    found.all()
    return found


@pytest.mark.parametrize("name", PAGES)
def test_its_commands_run(name: str, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = read_page(ROOT / name, ROOT)
    found = run(page, (ROOT / name).read_text(), stock, tmp_path, monkeypatch)
    assert not found.faults, "\n".join(found.faults)
