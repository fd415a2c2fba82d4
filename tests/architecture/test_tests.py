"""The tests' own house: unit tests start no process, stand where what they test stands, and nobody imports a test."""

import ast
from collections.abc import Set
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "src" / "paribus"
UNIT = sorted((TESTS / "unit").rglob("*.py"))
HELPERS = sorted((TESTS / "helpers").glob("*.py"))
MODULES = {"subprocess", "pty", "multiprocessing", "signal"}
NAMES = {"ProcessPoolExecutor", "kill", "killpg", "fork", "forkpty", "system", "popen", "posix_spawn"}
FIXTURE = "paribus"  # of conftest.py: the command line in a process of its own


def imported(tree: ast.AST) -> set[str]:
    """Names of modules, and of what is taken from them: `from helpers import terminals` names helpers.terminals too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def starts_processes(text: str, helpers: Set[str] = frozenset()) -> set[str]:
    """What in this code starts a process, opens a terminal or sends a signal. helpers: modules that do."""
    tree = ast.parse(text)
    names = imported(tree)
    found = {name for name in names if name in helpers or name.split(".")[0] in MODULES}
    found |= {name for name in names if name.split(".")[-1] in NAMES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            called = node.attr in NAMES or node.attr.startswith(("exec", "spawn"))
            found |= {f"os.{node.attr}"} if node.value.id == "os" and called else set()
        if isinstance(node, ast.arg) and node.arg == FIXTURE:
            found.add(f"the fixture {FIXTURE}")
    return found


def helpers_that_do() -> set[str]:
    """Helpers that start processes themselves, or by another helper."""
    found: set[str] = set()
    while True:
        more = {f"helpers.{p.stem}" for p in HELPERS if starts_processes(p.read_text(), found)}
        if more == found:
            return found
        found = more


def test_unit_tests_start_no_process_open_no_terminal_and_send_no_signal() -> None:
    helpers = helpers_that_do()
    assert "helpers.terminals" in helpers
    told = {str(p.relative_to(TESTS)): starts_processes(p.read_text(), helpers) for p in UNIT}
    assert {file: found for file, found in told.items() if found} == {}, "these belong in tests/process"


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess",
        "def test() -> None:\n    from subprocess import run",
        "import multiprocessing.pool",
        "from pty import fork",
        "import os\nos.kill(1, 9)",
        "import os\nif os.fork() == 0: pass",
        "import os\nos.execvp('bash', ['bash'])",
        "from os import kill",
        "from concurrent.futures import ProcessPoolExecutor",
        "from helpers.terminals import on_terminal",
        "from helpers import terminals",
        "def test(paribus): ...",
    ],
)
def test_negative_control_what_starts_a_process_is_noticed(code: str) -> None:
    assert starts_processes(code, {"helpers.terminals"})
    assert not starts_processes("import os\nimport threading\nos.getpid()\nfrom helpers.trainings import trained")


def test_every_folder_of_unit_tests_is_one_of_the_package() -> None:
    folders = {path.parent.relative_to(TESTS / "unit") for path in UNIT}
    assert {str(folder) for folder in folders if not (PACKAGE / folder / "__init__.py").is_file()} == set()
    assert Path() not in folders


def test_nobody_imports_a_test() -> None:
    for path in TESTS.rglob("*.py"):
        names = imported(ast.parse(path.read_text()))
        taken = {n for n in names if any(part.startswith("test_") or part == "conftest" for part in n.split("."))}
        assert not taken, f"{path.relative_to(TESTS)} imports {taken}: what tests share is in tests/helpers"


def test_the_readme_names_every_folder_of_tests() -> None:
    (line,) = [s for s in (TESTS.parent / "README.md").read_text().splitlines() if s.startswith("tests/ ")]
    assert {p.parent.relative_to(TESTS).parts[0] for p in TESTS.glob("*/**/*.py")} == set(line.split()[1:])
