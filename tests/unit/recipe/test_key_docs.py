"""What a config key means stands in its class's docstring, for every key, and is read as Python reads the class."""

import ast
import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest

import paribus
from paribus.core.build import to_config
from paribus.recipe.configs import find_config_folder
from paribus.recipe.describe_keys import describe_option, list_options
from paribus.recipe.key_docs import REQUIRED, first_sentence, parse_docstring, read_class

SOURCE = Path(paribus.__file__).parent
# files of other things: records of packs and manifests, how batches are made, studies, rules of overlays
NOT_KEYS = ("study", "data.packs", "data.trees", "data.ops", "recipe.overlays")


def find_schemas() -> list[str]:
    found: list[str] = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if module.startswith(NOT_KEYS):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and "schema" in [ast.unparse(d) for d in node.decorator_list]:
                found.append(f"paribus.{module}.{node.name}")
    return found


SCHEMAS = find_schemas()


def without_text(target: str) -> list[str]:
    doc = read_class(target)
    assert doc is not None
    return [key.name for key in doc.keys if not key.text]


@pytest.mark.parametrize("target", SCHEMAS)
def test_every_key_is_described(target: str) -> None:
    missing = without_text(target)
    assert not missing, f"{target}: its docstring lacks `{missing[0]}: what it means.` and so does train --help"


def test_all_of_them_are_found() -> None:
    assert len(SCHEMAS) > 40
    assert {"paribus.recipe.recipe.Recipe", "paribus.techniques.adamp.AdamPOptimizer"} <= set(SCHEMAS)


@pytest.mark.parametrize("target", SCHEMAS)
def test_names_and_defaults_are_those_of_the_class(target: str) -> None:
    doc = read_class(target)
    assert doc is not None
    module, _, name = target.rpartition(".")
    fields = {field.name: field for field in dataclasses.fields(getattr(importlib.import_module(module), name))}
    assert [key.name for key in doc.keys] == [name for name, field in fields.items() if field.init]
    for key in doc.keys:
        default = default_of(fields[key.name])
        if isinstance(default, dict) and "_target_" in default:
            assert key.default == default["_target_"].rpartition(".")[2]
        else:
            assert key.default == default, key.name


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """As plain data, whether pydantic's Field holds it or the class does."""
    default = field.default
    if hasattr(default, "is_required"):
        default = REQUIRED if default.is_required() else default.get_default(call_default_factory=True)
    if default is dataclasses.MISSING:
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else REQUIRED
    return to_config(default)


@pytest.mark.parametrize(
    ("target", "key", "kind"),
    [
        ("methods.optimizers.SGD", "lr", "number > 0"),
        ("methods.optimizers.AdamW", "betas", "list of 2: number ≥ 0, < 1"),
        ("methods.optimizers.AdamW", "decay", "matrices | all"),
        ("engine.runtime.Runtime", "threads", "whole number ≥ 1, ≤ 1024 | auto"),
        ("engine.runtime.Runtime", "tf32", "true | false"),
        ("engine.runtime.Runtime", "device", "text"),
        ("methods.update.GradientStep", "clip_norm", "number > 0 | null"),
        ("methods.schedules.Cosine", "warmup", "length: 5ep, 500ba"),
        ("models.convnet.ConvNet", "widths", "list of: whole number ≥ 1"),
        ("data.cifar.Cifar", "augment", "mapping"),
        ("data.images.ImageSet", "keep", "auto | device | host | mapped"),
        ("data.images.ImageSet", "eval_ratio", "number > 0, ≤ 1"),  # inherited, of an alias in another file
        ("models.timm_adapter.Timm", "weights_sha256", "text | null"),
        ("recipe.recipe.Recipe", "seed", "whole number ≥ 0"),
        ("techniques.cutmix.CutMix", "partner", "permutation | derangement | roll | flip"),
    ],
)
def test_types_and_ranges_in_words(target: str, key: str, kind: str) -> None:
    doc = read_class(f"paribus.{target}")
    assert doc is not None
    found = doc.key(key)
    assert found is not None
    assert found.kind == kind


@pytest.mark.parametrize(
    ("doc", "summary", "texts"),
    [
        ("A net.", "A net.", {}),
        ("a: one. b: two; 3. See a: it.", "", {"a": "one.", "b": "two; 3. See a: it."}),
        ("A net: of c. a, b: both.", "A net: of c.", {"a": "both.", "b": "both."}),
        ("A net.\n\na: one\nline.\n\nb: no more.", "A net.", {"a": "one line.", "b": "no more."}),
        ("A.\n\na: one.\n\nOf no key.", "A.", {"a": "one."}),
        ("ab: not a key. a: one", "ab: not a key.", {"a": "one"}),
    ],
)
def test_docstrings(doc: str, summary: str, texts: dict[str, str]) -> None:
    assert parse_docstring(doc, ["a", "b"]) == (summary, texts)


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("0 to 1, e.g. 0.5. More.", "0 to 1, e.g. 0.5"),
        ("smoothing (Szegedy et al. 2016).", "smoothing (Szegedy et al. 2016)"),
        ("short; and more.", "short; and more"),
        ("l" * 60 + "; " + "o" * 60, "l" * 60),
        ("", ""),
    ],
)
def test_one_line_of_a_description(text: str, one: str) -> None:
    assert first_sentence(text) == one


def test_a_class_of_the_users_is_read_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab_of_docs").mkdir()
    (tmp_path / "lab_of_docs" / "__init__.py").write_text("from .nets import Net\n")
    (tmp_path / "lab_of_docs" / "base.py").write_text(
        "Size = int\n@schema\nclass Base:\n    '''A base. size: of all.'''\n    size: Size = 3\n"
    )
    (tmp_path / "lab_of_docs" / "nets.py").write_text(
        "raise RuntimeError('imported')\nfrom .base import Base\n"
        "@schema\nclass Net(Base):\n    '''A net. deep: how.'''\n    deep: bool\n    args: unknown.Thing = thing()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    doc = read_class("lab_of_docs.nets.Net")
    assert doc is None, "the package above it is imported to find it, and that fails here"
    (tmp_path / "lab_of_docs" / "__init__.py").write_text("")
    read_class.cache_clear()
    from paribus.recipe import key_docs

    key_docs._parse.cache_clear()
    importlib.invalidate_caches()
    doc = read_class("lab_of_docs.nets.Net")
    assert doc is not None
    assert [(key.name, key.kind, key.default, key.text) for key in doc.keys] == [
        ("size", "whole number", 3, "of all."),
        ("deep", "true | false", REQUIRED, "how."),
        ("args", "unknown.Thing", "thing", ""),
    ]
    assert read_class("lab_of_docs.nets.Nothing") is None
    assert read_class("no_such_lab.Net") is None


GROUPS = sorted(path.name for path in find_config_folder().iterdir() if path.is_dir() and path.name != "experiment")


@pytest.mark.parametrize("group", GROUPS)
def test_every_key_of_every_option_is_described(group: str) -> None:
    for option in list_options([find_config_folder()], group):
        for key in describe_option(group, option.content):
            assert key.doc is not None, f"{group}={option.name}: {key.path}"
            assert key.doc.text, f"{group}={option.name}: {key.path}"
