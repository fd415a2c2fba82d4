"""From a plain config to objects: each mapping with a `_target_` becomes that frozen dataclass, children first, and
`{_class_: name}` the class of that name itself.

Pydantic checks keys, types, choices and ranges from the dataclass itself; this file finds the class, refuses what is
not allowed, and puts every mistake into one line that names the config path. `to_config` is the inverse.
"""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast, dataclass_transform

import pydantic
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from paribus.core.class_paths import to_current_name
from paribus.core.errors import ConfigError, explain_exception
from paribus.core.renamed import old_names
from paribus.core.spelling import did_you_mean

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def schema(cls: type[T]) -> type[T]:
    """A frozen keyword-only dataclass whose fields are checked when it is made: the class is its config's schema."""
    config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, validate_default=True
    )
    checked_cls = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=config)(cls)
    return cast(type[T], checked_cls)


def matches_signature(protocol: type[Any], *alternatives: type[Any]) -> AfterValidator:
    """For a field's annotation: refuse a callable with other arguments, such as a model where an optimizer
    belongs. alternatives: further forms that are taken as well."""
    allowed = [list(inspect.signature(p.__call__).parameters)[1:] for p in (protocol, *alternatives)]

    def check(value: Any) -> Any:
        if value is not None and list(inspect.signature(value).parameters) not in allowed:
            calls = " or ".join(f"({', '.join(names)})" for names in allowed)
            raise ValueError(f"should be a {protocol.__name__}, called with {calls}")
        return value

    return AfterValidator(check)


def build(node: Any, path: str = "", packages: tuple[str, ...] = ()) -> Any:
    """Build a config node: mappings with `_target_` become objects, lists become tuples, the rest stays.

    packages: names of further packages, beside paribus, that a `_target_` may come from.
    Raises ConfigError with one line: the path, what was found, what is allowed.
    """
    if isinstance(node, Mapping):
        node = cast(Mapping[Any, Any], node)
        if set(node) == {"_class_"}:
            return _resolve_user_class(node["_class_"], _join_path(path, "_class_"), packages)
        children = {str(k): build(v, _join_path(path, str(k)), packages) for k, v in node.items() if k != "_target_"}
        if "_target_" not in node:
            return children
        cls = resolve(node["_target_"], path, packages)
        return instantiate(cls, children, path)
    if isinstance(node, list | tuple):
        return tuple(build(item, _join_path(path, str(i)), packages) for i, item in enumerate(cast(list[Any], node)))
    return node


def instantiate(
    cls: type[T], values: Mapping[str, Any], path: str = "", *, name: str = "", internal: tuple[str, ...] = ()
) -> T:
    """cls(**values), with a validation error reported in one line. name: what the error calls the class, if not by its
    own name. internal: fields that nobody gives by that key, so that no error lists them."""
    try:
        return cls(**values)
    except ValidationError as error:
        known = [field.name for field in fields(cast(Any, cls)) if field.name not in internal]
        messages: dict[str, list[str]] = {}
        for e in error.errors():
            where, what = _explain_error(cast(dict[str, Any], e), path, name or cls.__name__, known)
            messages[where] = [*messages[where], what.partition("; ")[2]] if where in messages else [what]
        raise ConfigError("; ".join(f"{where}: {' or '.join(what)}" for where, what in messages.items())) from error


def resolve(target: object, path: str, packages: tuple[str, ...] = ()) -> type[Any]:
    """The dataclass a dotted name stands for; only from paribus and the packages named by the user."""
    where = _join_path(path, "_target_")
    found = _import_name(target, where, ("paribus", *packages))
    if not (isinstance(found, type) and is_pydantic_dataclass(found)):
        raise ConfigError(f"{where}: {target} is not a config class (a dataclass made with paribus.core.build.schema)")
    return found


def _resolve_user_class(name: object, where: str, packages: tuple[str, ...]) -> type[Any]:
    """The class will be called, so it must be defined in one of the user's own packages: otherwise a run folder from
    elsewhere could have Popen called, through a module of ours that imports it."""
    found = _import_name(name, where, packages)
    if not isinstance(found, type) or found.__module__.split(".")[0] not in packages:
        raise ConfigError(
            f"{where}: {name} is not a class defined in {' or '.join(packages) or 'a package of yours'} "
            "(packages=[your_package] adds your own)"
        )
    return found


def _import_name(name: object, where: str, allowed: tuple[str, ...]) -> Any:
    """What a dotted name stands for; only from the allowed packages. where: its config path."""
    if not isinstance(name, str) or "." not in name:
        raise ConfigError(
            f"{where}: found {name!r}; expected a dotted class name such as paribus.models.convnet.ConvNet"
        )
    if name.split(".")[0] not in allowed:
        raise ConfigError(
            f"{where}: found {name}; only classes of {', '.join(allowed) or 'your own packages'} may be named in a "
            "config (packages=[your_package] adds your own)"
        )
    module_name, _, attribute = to_current_name(name).rpartition(".")
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, attribute, None)
    except Exception as error:  # whatever the code of a user's package raises
        raise ConfigError(f"{where}: {name} cannot be imported: {explain_exception(error)}") from error
    if found is None:
        near = did_you_mean(attribute, list(vars(module)))
        raise ConfigError(f"{where}: {name} cannot be imported: {module_name} has no {attribute}{near}")
    return found


def to_config(thing: Any) -> Any:
    """Plain data from which `build` makes the same object again, with every default written out."""
    if is_dataclass(thing) and not isinstance(thing, type):
        cls = type(thing)
        values = {field.name: to_config(getattr(thing, field.name)) for field in fields(thing) if field.init}
        return {"_target_": f"{cls.__module__}.{cls.__qualname__}", **values}
    if isinstance(thing, type):
        return {"_class_": f"{thing.__module__}.{thing.__qualname__}"}
    if isinstance(thing, Mapping):
        return {str(k): to_config(v) for k, v in cast(Mapping[Any, Any], thing).items()}
    if isinstance(thing, list | tuple):
        return [to_config(item) for item in cast(list[Any], thing)]
    return thing


def _join_path(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _explain_error(error: dict[str, Any], path: str, cls: str, known: list[str]) -> tuple[str, str]:
    """Where, and what was found there and what is allowed."""
    loc = [str(part) for i, part in enumerate(error["loc"]) if i == 0 or isinstance(part, int)]
    # further strings in a location are the members of a union; only the field's name means anything to a reader
    where = _join_path(path, ".".join(loc)) if loc else path or cls
    if error["type"] == "unexpected_keyword_argument":
        return where, f"no such key{did_you_mean(loc[0], known)}; {cls} takes {', '.join(known) or 'nothing'}"
    if error["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return where, f"missing; {cls} needs it"
    if error["type"] == "value_error" and not loc:  # a check across fields, in the dataclass's own words
        return where, str(error["msg"]).removeprefix("Value error, ")
    found = error.get("input")
    shown = repr(found) if not is_dataclass(found) else type(found).__name__
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if error["type"] in ("is_instance_of", "dataclass_type", "dataclass_exact_type"):
        message += ", which a config makes by {_target_: CLASS, ...}"
    return where, f"found {shown}; {message}"


if not TYPE_CHECKING:
    __getattr__ = old_names(
        __name__,
        {"checked": "instantiate", "called_like": "matches_signature", "describe": "to_config", "near": "did_you_mean"},
    )
