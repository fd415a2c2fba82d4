"""Config to objects and back, and the words for what is wrong."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from paribus.core.build import instantiate, schema
from paribus.core.errors import ConfigError


@schema
class Inner:
    rate: Annotated[float, Field(gt=0)] = 1.0
    kind: Literal["a", "b"] = "a"


@schema
class Outer:
    inner: Inner
    sizes: tuple[int, ...] = (1, 2)
    limit: int | Literal["auto"] = "auto"


def problem(values: dict, cls: type = Outer) -> str:
    with pytest.raises(ConfigError) as caught:
        instantiate(cls, values, "top")
    return str(caught.value)


def test_every_mistake_has_a_place_and_a_remedy() -> None:
    assert problem({"inner": 3}) == (
        "top.inner: found 3; should be an instance of Inner, which a config makes by {_target_: CLASS, ...}"
    )
    assert problem({}) == "top.inner: missing; Outer needs it"
    assert problem({"rate": True}, Inner) == "top.rate: found True; should be a valid number"
    assert problem({"kind": "c"}, Inner) == "top.kind: found 'c'; should be 'a' or 'b'"
    assert problem({"rat": 1}, Inner) == "top.rat: no such key (did you mean rate?); Inner takes rate, kind"
    assert "top.sizes.1: found 'x'; should be a valid integer" in problem({"inner": Inner(), "sizes": (1, "x")})
    assert problem({"inner": Inner(), "limit": 1.5}).startswith("top.limit: found 1.5; should be a valid integer or")
