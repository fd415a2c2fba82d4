"""pyproject.toml names what paribus imports: all of it, and nothing more for those who only train."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COME_WITH = {"huggingface-hub": "timm", "markupsafe": "jinja2"}  # used only to talk to the package that requires it


def find_imports(tree: ast.AST) -> Iterator[str]:
    """Top-level modules, wherever in the file they are imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def find_packages(texts: Iterator[str]) -> set[str]:
    """The packages that these sources import, by their names on the index."""
    homes = packages_distributions()
    modules = {module for text in texts for module in find_imports(ast.parse(text))}
    others = modules - set(sys.stdlib_module_names) - {"paribus", "__future__"}
    return {canonicalize_name(name) for module in others for name in homes.get(module, [module])}


def sources() -> Iterator[str]:
    return (path.read_text() for path in (ROOT / "src" / "paribus").rglob("*.py"))


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements} - {"paribus"}


def test_what_is_imported_is_required_and_what_is_required_is_imported() -> None:
    found, required = find_packages(sources()), names(PROJECT["dependencies"])
    optional = {extra: names(lines) for extra, lines in PROJECT["optional-dependencies"].items()}
    assert required <= found, f"required but never imported: {sorted(required - found)}"
    assert set(COME_WITH.values()) <= required
    found -= set(COME_WITH)
    unnamed = found - required - {name for lines in optional.values() for name in lines}
    assert not unnamed, f"imported but in no list of pyproject.toml: {sorted(unnamed)}"
    # adamp: what `paribus bench` compares with, where it is installed
    beside = optional["gpu"] | optional["tensorboard"] | optional["pandas"] | optional["inception"] | {"adamp"}
    assert found - required == beside


def test_negative_control_an_import_inside_a_function_is_found() -> None:
    text = "import os.path\ndef f():\n    from sklearn.svm import SVC\n    import yaml, paribus.core\n"
    assert find_packages(iter([text, "from . import x\nimport nowhere.at_all\n"])) == {
        "scikit-learn",
        "pyyaml",
        "nowhere",
    }
