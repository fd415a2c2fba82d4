"""The house stands as the README draws it: every config builds, every technique is whole, every path named exists."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers.trainings import composed, recipe_of
from paribus.recipe.configs import find_config_folder, list_options
from paribus.recipe.overlays import apply_overlays
from paribus.recipe.recipe import rebuild_recipe

ROOT = Path(__file__).parents[2]
TECHNIQUES = [name for name in list_options("technique") if name != "baseline"]


@pytest.mark.parametrize("experiment", list_options("experiment"))
def test_every_experiment_composes_and_its_config_is_complete(experiment: str) -> None:
    recipe = recipe_of(f"experiment={experiment}")
    assert recipe.name == experiment
    text = (find_config_folder() / "experiment" / f"{experiment}.yaml").read_text()
    assert f"paribus train experiment={experiment}" in text, "the header comment gives the command"


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (g, n)
        for g in ("data", "model", "optimizer", "schedule", "runtime", "tracker", "method")
        for n in list_options(g)
    ],
)
def test_every_option_of_every_group_composes(group: str, name: str) -> None:
    config = composed(f"{group}={name}")
    recipe, written = rebuild_recipe(apply_overlays(config, [])), config[group]  # fetching no weights for a checksum
    if "_target_" in written:
        built = getattr(recipe, group)
        assert f"{type(built).__module__}.{type(built).__qualname__}" == written["_target_"]
        # nothing is left to a default that a reader of the file would not see
        assert {k for k in recipe.config[group]} == set(written)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_technique_is_code_with_a_card_an_overlay_and_a_parity_test(name: str) -> None:
    overlay = (find_config_folder() / "technique" / f"{name}.yaml").read_text()
    assert name in yaml.safe_load(overlay)["overlays"]
    homes = set(re.findall(r"paribus\.techniques\.(\w+)", overlay))
    assert homes, "the overlay names what it puts in"
    for home in homes:
        package = ROOT / "src" / "paribus" / "techniques"
        file = package / f"{home}.py" if (package / f"{home}.py").is_file() else package / home / "__init__.py"
        card = file.read_text().split('"""')[1]
        for part in ("arXiv", "What it changes", "Hyperparameters", "Deviations", "Cost"):
            assert part in card, f"the card of {home} has no {part}"
        test = (ROOT / "tests" / "parity" / f"test_{home}.py").read_text()
        assert "def test_negative_control_" in test, "a parity test has a negative control"


def test_every_path_in_the_documents_exists() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        text = re.sub(r"```console\n.*?```", "", text, flags=re.DOTALL)  # what commands print, report.html say
        named = set(re.findall(r"(?:src|configs|tests|scripts|experiments)/[\w./-]*\w", text))
        named |= set(re.findall(r"\]\(([^)#:]+)\)", text))
        missing = [path for path in sorted(named) if "NAME" not in path and not (ROOT / path).exists()]
        assert not missing, f"{document} names {missing}"


PACKAGE = ROOT / "src" / "paribus"
MAP = re.search(r"## Code map.*?```\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


def lines_of_the_map() -> dict[str, list[str]]:
    """Package of src/paribus -> its lines in the README's code map."""
    assert MAP is not None
    lines = MAP[1].partition("src/paribus/")[2].partition("\n")[2].partition("\ndocs/")[0].splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        if named := re.match(r"  (\w+)/ ", line):
            found[named[1]] = [line]
        else:
            found[list(found)[-1]].append(line)
    return found


def test_the_code_map_has_every_package_in_at_most_two_lines() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    found = lines_of_the_map()
    assert set(found) == packages
    assert {name for name, lines in found.items() if len(lines) > 2} == set()


@pytest.mark.parametrize("package", sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()))
def test_what_the_code_map_names_is_there(package: str) -> None:
    text = " ".join(lines_of_the_map()[package])
    named = [*re.findall(r"\b([\w/]+\.py)\b", text), *re.findall(r"\b(\w+/)", text.partition("/ ")[2])]
    assert [name for name in named if not (PACKAGE / package / name).exists()] == []


def class_names(folder: Path) -> dict[str, list[str]]:
    """Class name -> the files that define it, nested ones too."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(str(path.relative_to(folder)))
    return found


def test_no_class_name_is_defined_twice() -> None:
    assert {name: files for name, files in class_names(PACKAGE).items() if len(files) > 1} == {}


def test_negative_control_a_class_name_that_is_there_twice_is_found(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("def f():\n    class Plan:\n        pass\n")
    assert class_names(tmp_path) == {"Plan": ["a.py", "b.py"]}


@pytest.mark.parametrize(
    ("start", "absent"),
    [
        ("import paribus", ("torch", "hydra", "numpy")),
        ("import paribus.cli.main", ("torch", "hydra", "numpy")),
        ("import paribus.cli.list", ("torch", "hydra")),
        ("import paribus.recipe.recipe", ("timm", "torchvision", "sklearn", "wandb")),
        ("import paribus.study", ("torch",)),
    ],
)
def test_what_starts_light_stays_light(start: str, absent: tuple[str, ...]) -> None:
    code = f"{start}, sys\nprint([m for m in {absent!r} if m in sys.modules])".replace(", sys", "\nimport sys")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_load() -> None:
    import paribus

    for name in paribus.__all__:
        assert getattr(paribus, name) is not None
    with pytest.raises(AttributeError):
        _ = paribus.nothing_of_the_kind


def test_no_file_names_this_machine() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    pattern = re.compile(r"(?<![\w.])/(work|farm|root|home/\w+)/")
    for file in files:
        path = ROOT / file
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".sh", ".txt", ".json"} and path.exists():
            assert not pattern.search(path.read_text()), file
