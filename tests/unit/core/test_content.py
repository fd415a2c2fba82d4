"""Files known by their content: found wherever they stand in a config object, read only if they are what was hashed."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paribus.core.build import schema
from paribus.core.content import Checksum, drop_hashed_paths, hash_file, iterate_files, read_checked, replace_objects
from paribus.core.errors import ConfigError


@schema
class Labels:
    """As a later technique would declare it."""

    labels: str | None = None
    labels_sha256: Checksum = None


@schema
class Holder:
    one: Any = None
    many: tuple[Any, ...] = ()
    named: dict[str, Any]


def test_files_are_found_at_any_depth_and_only_where_one_is_named() -> None:
    inner = Labels(labels="c")
    holder = Holder(
        one=Labels(labels="a"), many=(Labels(), Labels(labels="b")), named={"x": Holder(one=inner, named={})}
    )
    found = {file.key: file.find() for file in iterate_files(holder)}
    assert found == {"one.labels": Path("a"), "many.1.labels": Path("b"), "named.x.one.labels": Path("c")}
    assert next(iterate_files(inner)).key == "labels"


def test_objects_are_replaced_by_their_path_and_the_rest_is_the_same_object() -> None:
    holder = Holder(one=Labels(labels="a"), many=(Labels(labels="b"),), named={"x": Labels(labels="c")})
    assert replace_objects(holder, lambda thing, _: thing) is holder
    changed = replace_objects(
        holder, lambda thing, where: replace(thing, labels="new") if where in ("many.0", "named.x") else thing
    )
    assert (changed.one, changed.many[0].labels, changed.named["x"].labels) == (holder.one, "new", "new")
    assert changed.one is holder.one
    assert holder.many[0].labels == "b"


def test_only_the_bytes_of_the_checksum_are_read(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_bytes(b"0 1 2")
    checksum = hash_file(file)
    assert checksum == hashlib.sha256(b"0 1 2").hexdigest()
    assert read_checked(file, checksum) == read_checked(file, None) == b"0 1 2"
    file.write_bytes(b"0 1 3")
    with pytest.raises(
        ConfigError, match=f"labels has the sha256 {hash_file(file)}, and the recipe demands {checksum}"
    ):
        read_checked(file, checksum)


def test_a_checksum_takes_the_place_of_its_own_path_alone() -> None:
    known = {"a": "x", "a_sha256": "0" * 64, "b": "x", "b_sha256": None, "c": [{"a": 1, "a_sha256": "1" * 64}]}
    assert drop_hashed_paths(known) == {
        "a_sha256": "0" * 64, "b": "x", "b_sha256": None, "c": [{"a_sha256": "1" * 64}],
    }  # fmt: skip
