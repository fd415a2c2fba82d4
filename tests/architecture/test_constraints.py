"""constraints.txt pins what the tests need and nothing else (scripts/constraints.py)."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("constraints_script", ROOT / "scripts" / "constraints.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_names_and_versions_in_order(script: Any) -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert text == script.format_pins(script.read_pins(text))


@pytest.mark.parametrize(
    "line",
    ["PyYAML==6.0", "numpy>=2", "numpy", "numpy==2 # why", "-e .", "numpy @ file:///x", "b==1\na==1", "a==1\na==2"],
)
def test_negative_control_another_line_is_refused(script: Any, line: str) -> None:
    with pytest.raises(ValueError, match=r"expected NAME==VERSION|stands after"):
        script.read_pins(line)


def test_it_is_what_the_tests_need(script: Any) -> None:
    """Judged where the pinned versions are installed, as in CI; other versions may need other packages."""
    project = script.read_project(ROOT / "pyproject.toml")
    closure = script.find_closure("paribus[dev]", project, script.read_installed)
    found = script.compare(script.read_pins((ROOT / "constraints.txt").read_text()), closure.pins)
    if closure.missing or found.versions:
        pytest.skip(f"not the pinned environment: missing {sorted(closure.missing)}, pinned and here {found.versions}")
    assert (found.unneeded, found.unpinned) == ([], [])


def test_every_pin_is_for_the_oldest_python(script: Any) -> None:
    """Of the versions that are installed as they are pinned: another version's needs say nothing of the pin's."""
    pins = script.read_pins((ROOT / "constraints.txt").read_text())
    here = {name: found for name in pins if (found := script.read_installed(name)) and found.version == pins[name]}
    assert here
    assert script.find_unfit(here, script.read_installed) == {}


def test_negative_control_a_pin_for_a_later_python_is_found(script: Any) -> None:
    packages = {"a": script.Package("1", (), ">=3.11.5"), "b": script.Package("1", (), ">=3.9"), "c": None}
    assert script.find_unfit(packages, packages.get) == {"a": ">=3.11.5"}


def test_extras_are_read_with_their_markers(script: Any, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    extras = "[project.optional-dependencies]\nx = [\"a>=1; sys_platform == 'linux' or os_name == 'nt'\", 'b[c]']\n"
    path.write_text(f"[project]\ndependencies = ['d']\n{extras}")
    assert script.read_project(path).requires == (
        "d",
        'a>=1; (sys_platform == "linux" or os_name == "nt") and extra == \'x\'',
        "b[c]; extra == 'x'",
    )


def test_negative_control_what_is_missing_and_what_is_too_much_are_found(script: Any) -> None:
    installed = {
        "numpy": script.Package("2.4", ()),
        "wandb": script.Package("0.31", ("Click>=8", "win32api; sys_platform == 'win32'", "boto; extra == 'aws'")),
        "click": script.Package("8.5", ("backport; python_version < '3.12'", "older; python_version < '3.11'")),
        "backport": script.Package("1.0", ()),
        "pytest": script.Package("9.2", ()),
    }
    project = script.Package(
        "", ("numpy>=1", 'wandb>=0; extra == "log"', 'mine[log]; extra == "dev"', 'gone; extra == "dev"')
    )
    closure = script.find_closure("mine[dev]", project, installed.get)
    assert closure.pins == {"numpy": "2.4", "wandb": "0.31", "click": "8.5", "backport": "1.0"}
    assert closure.missing == {"gone"}
    assert script.find_closure("mine", project, installed.get) == ({"numpy": "2.4"}, set())
    pins = {"numpy": "2.3", "wandb": "0.31", "click": "8.5", "pytest": "9.2"}
    assert script.compare(pins, closure.pins) == (["pytest"], ["backport"], {"numpy": ("2.3", "2.4")})
