"""Digests of source code: any byte and any file counts, where it lies does not."""

from pathlib import Path

import pytest

from paribus.core.sources import hash_folder, hash_package


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def written(place: Path, **files: str) -> None:
    for name, text in files.items():
        path = place / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_package_is_all_its_files(place: Path) -> None:
    written(place, j3pack__net="a = 1\n", j3pack__deep__more="b = 1\n")
    first = hash_package("j3pack")
    assert first == hash_folder(place / "j3pack")
    (place / "j3pack" / "data.txt").write_text("no code")
    assert hash_package("j3pack") == first
    seen = {first}
    for change in ({"j3pack__net": "a = 2\n"}, {"j3pack__deep__more": "b = 2\n"}, {"j3pack__another": ""}):
        written(place, **change)
        seen.add(hash_package("j3pack"))
    (place / "j3pack" / "another.py").rename(place / "j3pack" / "renamed.py")
    seen.add(hash_package("j3pack"))
    assert len(seen) == 5
    assert None not in seen


def test_a_module_is_its_file_and_not_its_neighbours(place: Path) -> None:
    written(place, j3module="a = 1\n", j3neighbour="")
    first = hash_package("j3module")
    written(place, j3neighbour="b = 1\n")
    assert hash_package("j3module") == first
    written(place, j3module="a = 2\n")
    assert hash_package("j3module") not in (first, None)


@pytest.mark.parametrize("name", ["j3nowhere", "sys", ""])
def test_what_has_no_source_has_no_digest(name: str) -> None:
    assert hash_package(name) is None
