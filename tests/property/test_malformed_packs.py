"""Whatever stands in a manifest, a pack.json, a journal or a list of names: one line of ConfigError, or it is taken."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.image_trees import pets
from helpers.packs import QUIET
from paribus.core.errors import ConfigError
from paribus.data.packs import write
from paribus.data.packs.open import Pack, open_pack
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.data.trees.manifest import Manifest, read_manifest

MANIFEST_KEYS = ["title", "classes", "classes_of", "folders", "within", "share", "train", "val", "archives", "name"]
ARCHIVE_KEYS = ["file", "url", "md5", "size", "torchvision", "nested"]
leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(10**17, 10**20),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["imagenet", "imagenette", "../x", "https://x/y", "a" * 32, "a" * 64, "train-x.pixels", ".", "/"]),
)
keys = st.one_of(st.sampled_from([*MANIFEST_KEYS, *ARCHIVE_KEYS, "a", "b", "n01440764"]), st.text(max_size=3))
tree_of = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
)
fuzzed = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="paribus-malformed-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def whole(room: Path) -> Path:
    """A sound pack and its tree."""
    before, write._CHUNK_BYTES = write._CHUNK_BYTES, 2 * 8 * 8 * 3
    prepare(PrepareRequest("folder", pets(room / "pets"), 8, room / "pack"), QUIET)
    write._CHUNK_BYTES = before
    return room / "pack"


def taken_or_one_line(act: Any) -> Any:
    told = ""
    try:
        return act()
    except ConfigError as error:
        told = str(error)
    assert told
    assert "\n" not in told
    return None


@fuzzed
@given(content=st.dictionaries(st.sampled_from(MANIFEST_KEYS), tree_of, max_size=8) | tree_of)
def test_manifests_as_data(room: Path, content: Any) -> None:
    path = room / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    assert isinstance(taken_or_one_line(lambda: read_manifest(path)), Manifest | None)


@fuzzed
@given(content=st.binary(max_size=40) | st.text("{}[]:,-&*!|>'\"# \na1", max_size=30).map(str.encode))
def test_manifests_as_bytes(room: Path, content: bytes) -> None:
    path = room / "mine.yaml"
    path.write_bytes(content)
    assert isinstance(taken_or_one_line(lambda: read_manifest(path)), Manifest | None)


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(place for key, child in inner for place in places(child, (*at, key)))]


def replaced(node: Any, at: tuple[Any, ...], value: Any) -> Any:
    if not at:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[at[0]] = replaced(node[at[0]], at[1:], value)
    return copy


@fuzzed
@given(data=st.data())
def test_records_with_a_changed_place(whole: Path, data: st.DataObject) -> None:
    path = whole / "pack.json"
    text = path.read_text()
    record = json.loads(text)
    at = data.draw(st.sampled_from(places(record)))
    path.write_text(json.dumps(replaced(record, at, data.draw(tree_of))))
    try:
        found = taken_or_one_line(lambda: open_pack(whole, "folder", 8, whole.parent / "pets"))
    finally:
        path.write_text(text)
    assert isinstance(found, Pack | None)
    assert isinstance(open_pack(whole, "folder", 8, whole.parent / "pets"), Pack)


@fuzzed
@given(content=st.binary(max_size=60) | tree_of.map(lambda t: json.dumps(t).encode()) | st.just(b"[" * 100_000))
def test_records_as_bytes(whole: Path, content: bytes) -> None:
    path = whole / "pack.json"
    text = path.read_text()
    path.write_bytes(content)
    try:
        assert taken_or_one_line(lambda: open_pack(whole, "folder", 8, None)) is None
    finally:
        path.write_text(text)


@settings(fuzzed, max_examples=40)
@given(lines=st.lists(st.binary(max_size=20) | tree_of.map(lambda t: json.dumps(t).encode()), max_size=3))
def test_journals(whole: Path, lines: list[bytes]) -> None:
    """A journal that is no journal costs work, and nothing else."""
    out = whole.parent / "journal"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    plan = next(whole.glob("train-*.pixels")).name.removeprefix("train-").removesuffix(".pixels")
    before, write._CHUNK_BYTES = write._CHUNK_BYTES, 2 * 8 * 8 * 3
    try:
        (out / f"unfinished-{plan}.jsonl").write_bytes(b"\n".join(lines))
        prepare(PrepareRequest("folder", whole.parent / "pets", 8, out), QUIET)
    finally:
        write._CHUNK_BYTES = before
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}


@settings(fuzzed, max_examples=40)
@given(content=st.binary(max_size=40) | st.sampled_from([b"cat_0.png", b"cat/cat_0.png\r\ndog_1.png\n", b"\n \n"]))
def test_lists_of_names(whole: Path, content: bytes) -> None:
    listed, out = whole.parent / "names.txt", whole.parent / "listed"
    listed.write_bytes(content)
    taken_or_one_line(lambda: prepare(PrepareRequest("folder", whole.parent / "pets", 8, out, names=listed), QUIET))
