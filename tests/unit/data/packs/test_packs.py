"""Packs: made, gone on with after a kill, compared with their source, and what goes wrong while they are made."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch

from helpers.data_command import said
from helpers.image_trees import pets, picture
from helpers.packs import QUIET, content, small_chunks
from paribus.core.errors import ConfigError
from paribus.core.lock import locked
from paribus.data.packs import write as packing
from paribus.data.packs.format import default_folder, read_record
from paribus.data.packs.open import Pack, open_pack
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.data.packs.write import ProgressSink
from paribus.data.trees.decoding import resize_and_center_crop
from paribus.data.trees.source import open_folder_source


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    small_chunks(monkeypatch)


def pack_of(root: Path, size: int = 16) -> Pack:
    return open_pack(default_folder(root, "folder", size), "folder", size, root)


def test_a_pack_holds_what_the_source_decodes_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pets(tmp_path / "pets", train=5)
    picture(77, 16, 16).save(root / "val" / "dog" / "of_the_size.png")
    code, out, _ = said(capsys, "prepare", "folder", "--root", root, "--size", 16, "--workers", 1)
    assert code == 0
    assert "train 10, val 5, 2 classes; packed 15 in" in out
    pack = pack_of(root)
    assert pack.classes == ("cat", "dog")
    assert pack.partial == ()
    for split in ("train", "val"):
        source, packed = open_folder_source(root, split, None), pack.splits[split]
        assert packed.images.shape == (len(source), 16, 16, 3)
        assert (packed.images.dtype, packed.targets.dtype, packed.ids.dtype) == (torch.uint8, torch.int64, torch.int64)
        assert torch.equal(packed.targets, source.targets)
        assert packed.ids.tolist() == list(range(len(source)))
        for i in range(len(source)):
            assert np.array_equal(packed.images[i].numpy(), np.asarray(resize_and_center_crop(source.image(i), 16)))
    kept = np.asarray(picture(77, 16, 16))
    assert np.array_equal(pack.splits["val"].images[4].numpy(), kept)
    assert not np.array_equal(np.asarray(picture(1).resize((16, 16))), pack.splits["train"].images[1].numpy())


def test_pixels_that_are_not_as_the_journal_says_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = pets(tmp_path / "pets", train=7), tmp_path / "out"
    prepare(PrepareRequest("folder", root, 16, tmp_path / "straight"), QUIET)

    calls = iter(range(99))

    def full_later(file: IO[bytes], data: bytes) -> None:
        if next(calls) == 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(file, data)

    whole = packing.append_to_disk
    with monkeypatch.context() as patched:
        patched.setattr(packing, "append_to_disk", full_later)
        with pytest.raises(ConfigError, match="the disk is full"):
            prepare(PrepareRequest("folder", root, 16, out), QUIET)
    pixels = next(out.glob("train-*.pixels"))
    damaged = bytearray(pixels.read_bytes())
    damaged[2 * 2 * 16 * 16 * 3 + 5] ^= 1  # in the third chunk
    pixels.write_bytes(damaged)
    lines: list[str] = []
    prepare(PrepareRequest("folder", root, 16, out), ProgressSink(lines.append, lambda total, done: lambda n: None))
    assert any("resuming after 4 of 18 images" in line for line in lines)
    assert content(out) == content(tmp_path / "straight")


@pytest.mark.parametrize("n", [1, 2])
def test_bad_images_are_named_or_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int
) -> None:
    root = pets(tmp_path / "pets", train=5)
    (root / "train" / "cat" / "cat_3.png").write_bytes(b"")
    whole = (root / "train" / "dog" / "dog_0.png").read_bytes()
    (root / "train" / "dog" / "dog_0.png").write_bytes(whole[: len(whole) // 2])
    words = ("prepare", "folder", "--root", root, "--size", 16, "--workers", n)
    code, _, err = said(capsys, *words)
    assert code == 2
    assert (
        f"{root}/train/cat/cat_3.png: no JPEG, PNG, WebP, BMP, GIF, TIFF or PPM by its content; --on-error skip" in err
    )
    assert not (default_folder(root, "folder", 16) / "pack.json").exists()
    code, out, _ = said(capsys, *words, "--on-error", "skip")
    assert code == 0
    assert "resuming after 2 of 14 images" in out
    assert "skipped: train/cat/cat_3.png: no JPEG" in out
    assert "2 images skipped, listed above and in" in out
    pack = pack_of(root)
    assert pack.splits["train"].ids.tolist() == [0, 1, 2, 4, 6, 7, 8, 9]
    assert pack.splits["train"].targets.tolist() == [0] * 4 + [1] * 4
    assert [reason.partition(":")[0] for reason in pack.splits["train"].skipped] == [
        "train/cat/cat_3.png",
        "train/dog/dog_0.png",
    ]
    source = open_folder_source(root, "train", None)
    for row, i in enumerate(pack.splits["train"].ids.tolist()):
        expected = np.asarray(resize_and_center_crop(source.image(i), 16))
        assert np.array_equal(pack.splits["train"].images[row].numpy(), expected)
    (root / "val" / "cat" / "cat_0.png").touch()
    with pytest.raises(ConfigError) as caught:
        pack_of(root)
    command = f"paribus data prepare folder --root {root} --size 16 --on-error skip"
    assert str(caught.value).endswith(f"make it again with: {command}")
    assert said(capsys, *command.split()[2:])[0] == 0
    pack_of(root)


def test_a_split_without_a_sound_image_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pets(tmp_path / "pets", val=1)
    for path in (root / "val").rglob("*.png"):
        path.write_bytes(b"")
    code, _, err = said(capsys, "prepare", "folder", "--root", root, "--size", 16, "--on-error", "skip")
    assert code == 2
    assert "val: none of its 2 images decodes" in err


def test_when_the_disk_fills_the_earlier_pack_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pets(tmp_path / "pets", train=5)
    words = ("prepare", "folder", "--root", root, "--size", 16, "--workers", 1)
    assert said(capsys, *words)[0] == 0
    folder = default_folder(root, "folder", 16)
    before = content(folder)
    picture(50).save(root / "train" / "cat" / "new.png")

    class Full:
        """A file whose disk fills in the middle of a write."""

        def __init__(self, file: IO[bytes]) -> None:
            self._file = file

        def write(self, data: bytes) -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    calls = iter(range(99))
    whole = packing.append_to_disk
    with monkeypatch.context() as patched:
        patched.setattr(
            packing, "append_to_disk", lambda file, data: whole(Full(file) if next(calls) == 4 else file, data)
        )
        code, _, err = said(capsys, *words)
    assert code == 2
    assert f"{folder}: the disk is full (No space left on device); an earlier pack is unchanged" in err
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert open_pack(folder, "folder", 16, None).splits["train"].images.shape[0] == 10
    code, out, _ = said(capsys, *words)
    assert code == 0
    assert "resuming after 4 of 15 images" in out
    assert pack_of(root).splits["train"].images.shape[0] == 11
    assert len(list(folder.iterdir())) == 8  # pack.json, lock, three files a split: the earlier pack's are gone


def test_a_disk_that_is_too_small_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pets(tmp_path / "pets")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    code, _, err = said(capsys, "prepare", "folder", "--root", root, "--size", 16)
    assert code == 2
    assert "10 images need 1.1 MB, 0 kB are free there; choose another folder with --out" in err
    assert [path.name for path in default_folder(root, "folder", 16).iterdir()] == ["lock"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_root_that_cannot_be_written_names_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Permission bits do not bind root, so the refusal is played."""
    root, make = pets(tmp_path / "pets"), Path.mkdir

    def refused(self: Path, *args: Any, **kwargs: Any) -> None:
        if self.is_relative_to(root):
            raise OSError(number, os.strerror(number), str(self))
        make(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refused)
        code, _, err = said(capsys, "prepare", "folder", "--root", root, "--size", 16)
        assert code == 2
        assert f"{root}/packed/folder-16 cannot be written ({os.strerror(number)}); choose another with --out" in err
        assert said(capsys, "prepare", "folder", "--root", root, "--size", 16, "--out", tmp_path / "mine")[0] == 0
    assert open_pack(tmp_path / "mine", "folder", 16, root).size == 16


def test_two_at_once_the_second_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = pets(tmp_path / "pets"), tmp_path / "out"
    out.mkdir()
    with locked(out):
        code, _, err = said(capsys, "prepare", "folder", "--root", root, "--size", 16, "--out", out)
    assert code == 2
    assert f"{out} is in use by process {os.getpid()}" in err


def made(root: Path, out: Path | None = None) -> Path:
    wanted = PrepareRequest("folder", root, 16, out)
    prepare(wanted, QUIET)
    return wanted.folder


def test_a_changed_source_is_noticed_and_a_missing_one_is_none(tmp_path: Path) -> None:
    root = pets(tmp_path / "pets")
    folder = made(root)
    again = f"make it again with: paribus data prepare folder --root {root} --size 16"
    path = root / "train" / "cat" / "cat_1.png"
    before = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(ConfigError, match=f"files in {root} were replaced, .*; {again}$"):
        pack_of(root)
    assert open_pack(folder, "folder", 16, None).size == 16
    os.utime(path, ns=(before, before))
    pack_of(root)  # as large and as old as it was: not noticed, the price of not reading every image at every start
    path.unlink()
    with pytest.raises(ConfigError, match="has 5 images now, 6 then"):
        pack_of(root)
    shutil.rmtree(root / "val" / "dog")
    with pytest.raises(ConfigError, match=r"packed from other files: .*val: 1 class folder missing"):
        open_pack(folder, "folder", 16, root)
    shutil.copytree(folder, tmp_path / "elsewhere" / "packed" / "folder-16")
    assert pack_of(tmp_path / "elsewhere").classes == ("cat", "dog")


def test_what_is_wrong_with_a_pack_comes_with_the_command(tmp_path: Path) -> None:
    root = pets(tmp_path / "pets at home")
    usual = default_folder(root, "folder", 16)
    command = f"paribus data prepare folder --root '{root}' --size 16"
    unpacked = "data.form=folder needs none and decodes in every step"
    with pytest.raises(ConfigError) as caught:
        pack_of(root)
    said = f"data.pack: no pack of folder at 16 pixels in {usual}; {unpacked}, or make it with: {command}"
    assert str(caught.value) == said
    with pytest.raises(ConfigError, match=r"--root DIR --size 16 --out .*/mine$"):
        open_pack(tmp_path / "mine", "folder", 16, None)
    folder = made(root)
    with pytest.raises(ConfigError, match="is a pack of folder at 16 pixels, not of imagenette at 16"):
        open_pack(folder, "imagenette", 16, None)
    text = (folder / "pack.json").read_text()
    for change, told in (
        ({"format": 2}, "is a pack of format 2; this paribus reads format 1"),
        ({"classes": ["dog", "cat"]}, "its checksum is not that of its content"),
        ({"size": 0}, "damaged: size: found 0"),
        ({"colour": 1}, "colour: no such key"),
    ):
        (folder / "pack.json").write_text(json.dumps(json.loads(text) | change))
        with pytest.raises(ConfigError) as caught:
            pack_of(root)
        assert told in str(caught.value)
        assert str(caught.value).endswith(f"remove {folder} and run: {command}")
    (folder / "pack.json").write_text(text)
    pixels = next(folder.glob("train-*.pixels"))
    os.truncate(pixels, 100)
    with pytest.raises(ConfigError, match=r"has 100 bytes, 4,608 expected; the pack is damaged, make it again with"):
        pack_of(root)
    prepare(PrepareRequest("folder", root, 16), QUIET)  # the command mends it
    pack_of(root)
    next(folder.glob("val-*.ids")).unlink()
    with pytest.raises(ConfigError, match=r"val-.*\.ids is not there"):
        pack_of(root)


def test_check_finds_a_flipped_bit_if_it_looks_deep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pets(tmp_path / "pets", train=7)
    folder = made(root)
    check = ("check", "folder", "--root", root)
    code, out, _ = said(capsys, *check, "--deep")
    assert code == 0
    assert "labels and all pixels are as they were packed" in out
    pixels = next(folder.glob("train-*.pixels"))
    raw = bytearray(pixels.read_bytes())
    raw[5 * 16 * 16 * 3] ^= 1
    times = pixels.stat()
    pixels.write_bytes(raw)
    os.utime(pixels, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert said(capsys, *check)[0] == 0
    code, out, err = said(capsys, *check, "--deep")
    assert code == 2
    assert "images 4–5: wrong checksum" in err
    targets = next(folder.glob("train-*.targets"))
    targets.write_bytes(targets.read_bytes()[::-1])
    code, _, err = said(capsys, *check)
    assert code == 2
    assert "targets: the checksum is not that of pack.json" in err


def test_check_decodes_every_file_if_it_looks_deep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pets(tmp_path / "pets", train=70)
    check = ("check", "folder", "--root", root)
    code, out, _ = said(capsys, *check)
    assert code == 0
    assert "their pixels not read; --deep decodes every file" in out
    code, out, _ = said(capsys, *check, "--deep")
    assert code == 0
    assert f"{root}: all 144 files decode" in out
    bad = ("train/cat/cat_0.png", "train/dog/dog_69.png", "val/dog/dog_1.png")
    for name in bad:
        (root / name).write_bytes((root / name).read_bytes()[:60])
    assert said(capsys, *check)[0] == 0
    code, out, err = said(capsys, *check, "--deep")
    assert code == 1
    assert [line.split(": ")[1] for line in out.splitlines() if line.startswith("tree: ")] == list(bad)
    assert f"3 files of {root} did not decode" in err
    prepare(PrepareRequest("folder", root, 16, skip=True), QUIET)
    assert said(capsys, *check, "--deep")[0] == 1, "with a pack the tree is still read"


def test_check_of_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, "check", "imagewoof", "--root", tmp_path)
    assert code == 2
    assert f"no pack; make one with: paribus data prepare imagewoof --root {tmp_path} --size 160" in out
    assert "imagewoof is not there" in err
    root = pets(tmp_path / "pets")
    shutil.copytree(made(root), tmp_path / "moved" / "packed" / "folder-16")
    code, out, _ = said(capsys, "check", "folder", "--root", tmp_path / "moved")
    assert code == 0  # a pack needs no tree


def imagenette(top: Path, n: int = 2) -> Path:
    from paribus.data.trees.manifest import load_manifest

    return pets(top, n, n, tuple(load_manifest("imagenette").classes))


def test_a_part_of_a_set_must_be_allowed_and_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = imagenette(tmp_path / "imagenette")
    words = ("prepare", "imagenette", "--root", tmp_path, "--size", 16, "--workers", 1)
    code, _, err = said(capsys, *words)
    assert code == 2
    assert f"{root} is not all of imagenette (train: 20 of 9,469 images; val: 20 of 3,925 images)" in err
    code, out, _ = said(capsys, *words, "--allow-missing")
    assert code == 0
    assert "a part of imagenette only: train: 20 of 9,469" in out
    pack = open_pack(default_folder(tmp_path, "imagenette", 16), "imagenette", 16, tmp_path)
    assert pack.partial == ("train: 20 of 9,469 images", "val: 20 of 3,925 images")
    assert said(capsys, "check", "imagenette", "--root", tmp_path)[0] == 2
    code, out, _ = said(capsys, "check", "imagenette", "--root", tmp_path, "--allow-missing")
    assert code == 0
    code, out, _ = said(capsys, "list", "--root", tmp_path)
    assert code == 0
    assert f"{root} (packs: imagenette-16)" in out


def test_a_list_is_kept_with_the_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, listed = pets(tmp_path / "pets"), tmp_path / "names.txt"
    listed.write_text("dog_1.png\ncat_0.png\n\n")
    words = ("prepare", "folder", "--root", root, "--size", 16, "--workers", 1)
    code, out, _ = said(capsys, *words, "--list", listed)
    assert code == 0
    assert "chosen: training images by a list of 2 names (sha256 of its lines" in out
    listed.unlink()
    pack = pack_of(root)
    assert pack.splits["train"].targets.tolist() == [0, 1]
    assert "a list of 2 names" in pack.rule["chosen"]
    record = read_record(pack.folder)
    assert record is not None
    (root / "val" / "cat" / "cat_0.png").touch()
    with pytest.raises(ConfigError) as caught:
        pack_of(root)
    command = str(caught.value).partition("make it again with: ")[2]
    assert command == f"paribus data prepare folder --root {root} --size 16 --list {pack.folder / str(record.names)}"
    assert said(capsys, *command.split()[2:])[0] == 0
    assert pack_of(root).splits["train"].targets.tolist() == [0, 1]
    assert said(capsys, *words)[0] == 0  # without the list: another pack
    assert len(pack_of(root).splits["train"].targets) == 6
    code, _, err = said(capsys, *words, "--list", tmp_path / "nowhere")
    assert code == 2
    assert "the list of images cannot be read: No such file" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pack",), "data pack: no such command; there are prepare, check, list"),
        (("prepare",), "the following arguments are required: NAME"),
        (("prepare", "imagenet1k"), "no such set of images"),
        (("prepare", "folder", "--size", "0"), "found '0'; should be a whole number from 1 to 4096"),
        (("prepare", "folder", "--on-error", "warn"), "invalid choice: 'warn'"),
        (("prepare", "folder", "--root", "nowhere"), "nowhere: no tree of images there"),
        (("prepare", "folder", "--root", "nowhere", "--download"), "there is nothing to fetch"),
        (
            ("prepare", "imagewoof", "--root", "nowhere", "--download"),
            "torchvision does not fetch imagewoof; fetch https",
        ),
        (("prepare", "imagenet", "--root", "nowhere", "--download"), "get it from image-net.org"),
        (("check", "folder", "--root", "nowhere"), "nowhere: no tree of images there"),
        (("check", "folder", "--root", "nowhere", "--out", "mine"), "mine: no pack there"),
        (("list", "x"), "unrecognized arguments: x"),
    ],
)
def test_bad_command_lines_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = said(capsys, *words)
    assert code == 2
    assert told in err
    assert list(tmp_path.iterdir()) == []
