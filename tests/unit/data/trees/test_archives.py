"""Archives: unpacked whole or not at all, and never outside of their folder."""

import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.data_command import said
from helpers.image_trees import pets
from paribus.core.errors import ConfigError
from paribus.data.trees.archives import ensure_unpacked, extract_archive
from paribus.data.trees.manifest import Archive, Manifest, load_manifest


def packed_as(kind: str, path: Path, names: dict[str, bytes]) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, content in names.items():
                file.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as file:
            for name, content in names.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_unpacked(tmp_path: Path, kind: str) -> None:
    path = packed_as(kind, tmp_path / "set.bin", {"set/train/a/x.png": b"1", "set/val/a/y.png": b"2"})
    (tmp_path / f"unpacking-{path.name}" / "half").mkdir(parents=True)  # of a run that was killed
    extract_archive(path, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "set.bin"]
    assert (tmp_path / "set/val/a/y.png").read_bytes() == b"2"
    with pytest.raises(ConfigError, match="set is there already; remove it"):
        extract_archive(path, tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../evil", "set/../../evil", "/tmp/paribus-evil", "..\\evil", "C:\\evil"])
def test_a_member_outside_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    path = packed_as(kind, inside / "set.bin", {"set/good": b"1", name: b"2"})
    with pytest.raises(ConfigError) as caught:
        extract_archive(path, inside)
    assert str(caught.value).startswith(f"{path} cannot be unpacked: its member ")
    assert str(caught.value).endswith("would lie outside of the folder")
    assert [p.name for p in inside.iterdir()] == ["set.bin"]
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def tar_link(path: Path) -> None:
    with tarfile.open(path, "w") as file:
        member = tarfile.TarInfo("set/link")
        member.type, member.linkname = tarfile.SYMTYPE, "../../outside"
        file.addfile(member)
        inner = tarfile.TarInfo("set/link/evil")
        file.addfile(inner)


def tar_device(path: Path) -> None:
    with tarfile.open(path, "w") as file:
        member = tarfile.TarInfo("set/null")
        member.type = tarfile.CHRTYPE
        file.addfile(member)


def zip_link(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        member = zipfile.ZipInfo("set/link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, "../../outside")


def cut(path: Path) -> None:
    whole = packed_as("tar", path, {"set/x": bytes(range(256)) * 99}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def nonsense(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>")


@pytest.mark.parametrize("make", [tar_link, tar_device, zip_link, cut, nonsense])
def test_other_harm_and_damage_is_one_line(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "set.bin"
    make(path)
    with pytest.raises(ConfigError, match="cannot be unpacked: "):
        extract_archive(path, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["set.bin"]


def test_a_zip_that_does_not_fit_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed_as("zip", tmp_path / "set.bin", {"set/x": bytes(999)})
    monkeypatch.setattr("paribus.data.trees.archives._free_bytes", lambda folder: 10)
    with pytest.raises(ConfigError, match="unpacks to 999 bytes, which do not fit there"):
        extract_archive(path, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["set.bin"]


def test_prepare_unpacks_what_lies_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = pets(tmp_path / "tiny-imagenet-200", classes=list(load_manifest("imagewoof").classes))
    names = {f"imagewoof2-160/{p.relative_to(made)}": p.read_bytes() for p in made.rglob("*.png")}
    root = tmp_path / "root"
    root.mkdir()
    packed_as("tar", root / "imagewoof2-160.tgz", names)
    words = ("prepare", "imagewoof", "--root", root, "--size", 16, "--workers", 1, "--allow-missing")
    code, out, _ = said(capsys, *words)
    assert code == 0
    assert "no known checksum; used unverified" in out
    assert f"unpacking {root}/imagewoof2-160.tgz" in out
    packed_as("tar", root / "imagenette2-160.tgz", names)
    code, _, err = said(capsys, "prepare", "imagenette", "--root", root)
    assert code == 2
    assert "imagenette2-160.tgz is damaged or not the official file (md5 " in err
    assert "expected e793b78cc4c9e9a4ccc0c1155377a412" in err


def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, archives: tuple[Archive, ...]) -> str:
    """The file that is fetched for a pack of this size."""
    seen: list[str] = []

    def play(url: str, root: str, name: str, md5: str | None) -> None:
        seen.append(url)
        packed_as("tar", Path(root) / name, {"set/train/a/x.png": b"1"})

    monkeypatch.setattr("torchvision.datasets.utils.download_url", play)
    known = Manifest(name="set", title="Set", classes={"a": "a", "b": "b"}, archives=archives)
    assert ensure_unpacked(known, tmp_path / f"{size}", size, True, lambda line: None)
    return seen[0]


def test_the_archive_fits_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"small": 160, "middle": 320, "full": None}
    archives = tuple(
        Archive(file=f"{name}.tgz", url=f"https://x/{name}", size=size, torchvision=True)
        for name, size in sizes.items()
    )
    found = [fetched(tmp_path, monkeypatch, size, archives) for size in (64, 160, 161, 320, 400)]
    assert found == [f"https://x/{name}" for name in ("small", "small", "middle", "middle", "full")]


def test_a_fetch_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("File not found or corrupted.\nreally")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    with pytest.raises(ConfigError, match=r"--download: https://\S+ could not be fetched into .*corrupted. really"):
        ensure_unpacked(load_manifest("imagenette"), tmp_path / "root", 160, True, lambda line: None)


def test_the_official_file_is_taken(tmp_path: Path) -> None:
    path = packed_as("tar", tmp_path / "set.tgz", {"set/train/a/x.png": b"1"})
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    known = Manifest(name="set", title="", classes={"a": "", "b": ""}, archives=(Archive(file="set.tgz", md5=md5),))
    assert ensure_unpacked(known, tmp_path, 160, False, lambda line: None)
    assert (tmp_path / "set/train/a/x.png").is_file()
    bare = Manifest(name="other", title="", classes={"a": "", "b": ""})
    assert not ensure_unpacked(bare, tmp_path, 160, False, lambda line: None)
