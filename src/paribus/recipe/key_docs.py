"""What each config key means, as the docstring of its class says it, read from the source without importing it.

Importing a class of ours imports torch, which takes seconds that nobody should wait for help. So a class is found by
its dotted name, its file is parsed, and its fields, their types and ranges, and its docstring are read.

A docstring describes keys as `NAME: text.` or `NAME, OTHER: text.`, at its beginning, after a blank line or after a
sentence. A description ends where the next one begins or the paragraph does. Inherited keys are described by the base.
"""

import ast
import functools
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from paribus.core.class_paths import to_current_name

REQUIRED = "???"  # a default that there is none, as in configs

_PLAIN_TYPES = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true | false",
    "Any": "anything",
    "dict": "mapping",
    "Mapping": "mapping",
    "type": "class",
    # checked by functions, which say nothing to this reader
    "Duration": "length: 5ep, 500ba",
    "PositiveDuration": "length: 5ep, 500ba",
}
_ONE_LINE = 90  # characters
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


@dataclass(frozen=True)
class KeyDoc:
    """A field of a config class. kind: its type and range in words. default: plain data, the source's text where it is
    none, or REQUIRED. text: its description; "" where it has none. choices: every value it can have, as they are typed,
    where its type is a Literal (and null, or true and false); else ()."""

    name: str
    kind: str
    default: Any
    text: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassDoc:
    """A config class. summary: what its docstring says before the first key."""

    name: str
    summary: str
    keys: tuple[KeyDoc, ...]
    classes: Mapping[str, str] = field(default_factory=dict)  # field -> dotted name of a config class it always is

    def key(self, name: str) -> KeyDoc | None:
        return next((key for key in self.keys if key.name == name), None)


@functools.cache
def read_class(target: str) -> ClassDoc | None:
    """The class of this dotted name; None where its source cannot be found or read, or has no such class."""
    module, _, name = to_current_name(target).rpartition(".")
    where, node = _find(module, name) or (module, None)
    return _read(where, node) if isinstance(node, ast.ClassDef) else None


def _read(module: str, node: ast.ClassDef) -> ClassDoc:
    inherited: dict[str, KeyDoc] = {}
    classes: dict[str, str] = {}
    for base in node.bases:
        where, found = (_find(module, base.id) if isinstance(base, ast.Name) else None) or (module, None)
        if isinstance(found, ast.ClassDef):
            base_doc = _read(where, found)
            inherited |= {key.name: key for key in base_doc.keys}
            classes |= base_doc.classes
    own = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
    own = [part for part in own if not ast.unparse(part.annotation).startswith("ClassVar")]  # of the class: no key
    names = [part.target.id for part in own if isinstance(part.target, ast.Name)]
    summary, texts = parse_docstring(ast.get_docstring(node) or "", [*inherited, *names])
    keys = {name: _with_text(key, texts.get(name)) for name, key in inherited.items()}
    for name, part in zip(names, own, strict=True):
        kind, default = _format_type(part.annotation, module), _read_default(part.value)
        keys[name] = KeyDoc(name, kind, default, texts.get(name, ""), _read_choices(part.annotation, module))
        if (cls := _config_class(part.annotation, module)) is not None:
            classes[name] = cls
    return ClassDoc(node.name, summary, tuple(keys.values()), classes)


def _with_text(key: KeyDoc, text: str | None) -> KeyDoc:
    return key if text is None else replace(key, text=text)


def parse_docstring(doc: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """What a docstring says before the first key, and of each key.

    >>> parse_docstring("A net. width: channels, at least 1. depth, norm: of a stage.", ["width", "depth", "norm"])
    ('A net.', {'width': 'channels, at least 1.', 'depth': 'of a stage.', 'norm': 'of a stage.'})
    """
    if not names:
        return " ".join(doc.split("\n\n")[0].split()), {}
    name = f"(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})"
    begin = re.compile(rf"(?:^|(?<=\. ))({name}(?:, {name})*): ")
    summary, texts = "", dict[str, str]()
    for i, paragraph in enumerate(doc.split("\n\n")):
        before, *entries = begin.split(" ".join(paragraph.split()))
        if i == 0:
            summary = before.strip()
        for listed, text in zip(entries[::2], entries[1::2], strict=True):
            texts |= dict.fromkeys(listed.split(", "), text.strip())
    return summary, texts


def first_sentence(text: str) -> str:
    """The first sentence, and of a long one what stands before its semicolon.

    >>> first_sentence("of the deepest block, e.g. 0.1. The others grow."), first_sentence("Nothing")
    ('of the deepest block, e.g. 0.1', 'Nothing')
    """
    sentence = re.split(r"\.(?= [A-Z`]|$)", text, maxsplit=1)[0].strip()
    return sentence if len(sentence) <= _ONE_LINE else sentence.partition("; ")[0]


# --- names in a source file ---


@functools.cache
def _parse(module: str) -> ast.Module | None:
    try:
        spec = importlib.util.find_spec(module)
        return ast.parse(Path(spec.origin).read_text()) if spec is not None and spec.origin else None
    except Exception:  # whatever importing the packages above a user's module raises
        return None


def _find(module: str, name: str) -> tuple[str, ast.stmt] | None:
    """The module that defines a name, and its statement: a class, or an assignment of a type. Imports are followed."""
    tree = _parse(module)
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return module, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name and node.module and node.module != "typing":
                    return _find(_absolute(module, node), alias.name)
    return None


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return str(node.module)
    above = module.split(".")
    is_package = (spec := importlib.util.find_spec(module)) is not None and spec.submodule_search_locations is not None
    kept = above[: len(above) - node.level + is_package]
    return ".".join([*kept, str(node.module)])


def _config_class(annotation: ast.expr, module: str) -> str | None:
    """The dotted name of the config class that a field always is, as Recipe's `every` is."""
    if not isinstance(annotation, ast.Name) or annotation.id in _PLAIN_TYPES:
        return None
    found = _find(module, annotation.id)
    if found is None or not isinstance(found[1], ast.ClassDef):
        return None
    is_schema = any(isinstance(d, ast.Name) and d.id == "schema" for d in found[1].decorator_list)
    return f"{found[0]}.{found[1].name}" if is_schema else None


# --- types and defaults in words ---


def _read_default(value: ast.expr | None) -> Any:
    if value is None:
        return REQUIRED
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        if value.func.id != "Field":  # an object, such as StepwisePlan()
            return value.func.id
        factory = next((k.value for k in value.keywords if k.arg == "default_factory"), None)
        return {"dict": {}, "list": []}.get(ast.unparse(factory), REQUIRED) if factory is not None else REQUIRED
    try:
        found = eval_number(value)
    except ValueError:
        return ast.unparse(value)
    return list(found) if isinstance(found, tuple) else found


def eval_number(node: ast.expr) -> Any:
    """A literal, or a tuple of quotients such as (3 / 4, 4 / 3). Raises ValueError."""
    if isinstance(node, ast.Tuple):
        return tuple(eval_number(item) for item in node.elts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Pow):
        left, right = eval_number(node.left), eval_number(node.right)
        return left / right if isinstance(node.op, ast.Div) else left**right
    return ast.literal_eval(node)


def _format_type(node: ast.expr, module: str) -> str:
    """
    `Annotated[int, Field(ge=1)] | None` is "whole number ≥ 1 | null".
    """
    if isinstance(node, ast.Constant):
        return "null" if node.value is None else str(node.value)
    if isinstance(node, ast.BinOp):
        return f"{_format_type(node.left, module)} | {_format_type(node.right, module)}"
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        return _format_subscript(node.value.id, node.slice, module)
    if not isinstance(node, ast.Name):
        return ast.unparse(node)
    if node.id in _PLAIN_TYPES:
        return _PLAIN_TYPES[node.id]
    found = _find(module, node.id)
    if found is not None and isinstance(found[1], ast.Assign):
        return _format_type(found[1].value, found[0])
    return f"{node.id} (_target_)"


def _format_subscript(outer: str, inside: ast.expr, module: str) -> str:
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if outer == "Literal":
        return " | ".join(str(part.value) if isinstance(part, ast.Constant) else ast.unparse(part) for part in parts)
    if outer == "Annotated":
        return " ".join([_format_type(parts[0], module), *(r for part in parts[1:] if (r := _format_range(part)))])
    if outer == "tuple":
        one = _format_type(parts[0], module)
        if isinstance(parts[-1], ast.Constant) and parts[-1].value is ...:
            return f"list of: {one}"
        return f"list of {len(parts)}: {one}"
    return _PLAIN_TYPES.get(outer, outer)


def _read_choices(node: ast.expr, module: str) -> tuple[str, ...]:
    """
    `Literal["a", "b"] | None` has a, b and null; () for a type with other values, or without a Literal.
    """
    found = _format_type(node, module).split(" | ") if _is_closed(node, module) else []
    return tuple(found) if set(found) - {"null", "true", "false"} else ()


def _is_closed(node: ast.expr, module: str) -> bool:
    """Whether a type is made of Literals, None and bool alone."""
    if isinstance(node, ast.BinOp):
        return _is_closed(node.left, module) and _is_closed(node.right, module)
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Name) and node.value.id == "Literal"
    if not isinstance(node, ast.Name):
        return isinstance(node, ast.Constant) and node.value is None
    if node.id in _PLAIN_TYPES:
        return node.id == "bool"
    found = _find(module, node.id)
    return found is not None and isinstance(found[1], ast.Assign) and _is_closed(found[1].value, found[0])


def _format_range(node: ast.expr) -> str:
    """The bounds of a Field; "" for validators, patterns and bounds that nobody meets."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != "Field":
        return ""
    bounds = []
    for keyword in node.keywords:
        if keyword.arg in _SIGNS:
            try:
                value = eval_number(keyword.value)
            except ValueError:
                continue
            if abs(value) < 2**31:
                bounds.append(f"{_SIGNS[keyword.arg]} {value:g}" if value < 1e6 else f"{_SIGNS[keyword.arg]} {value}")
    return ", ".join(bounds)
