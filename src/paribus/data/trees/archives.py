"""A dataset's archive: downloaded on request where torchvision does so, and unpacked without leaving the folder."""

import hashlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from paribus.core.errors import ConfigError
from paribus.core.lock import locked
from paribus.core.long_step import long_step
from paribus.data.trees.manifest import Archive, Manifest


def ensure_unpacked(manifest: Manifest, root: Path, size: int, download: bool, log: Callable[[str], None]) -> bool:
    """Unpack the dataset's archive into root, with `download` fetching it first. False if there is none to unpack.

    size: image size of the pack; the smallest archive with images at least that large is used. Raises ConfigError.
    """
    plain = [archive for archive in manifest.archives if not archive.nested]
    there = [archive for archive in plain if (root / archive.file).is_file()]
    to_fetch = [archive for archive in plain if archive.torchvision]
    if download and not there and not to_fetch:
        raise ConfigError(
            f"--download: torchvision does not fetch {manifest.name}; {_explain_manual_download(manifest)}"
        )
    if not there and not download:
        return False
    chosen = _choose_archive(there or to_fetch, size)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root, wait=True):  # several processes on one folder: the first unpacks, the others find it there
            if any((root / name / "train").is_dir() for name in (manifest.name, *manifest.folders)):
                return True
            if not there:
                _fetch(chosen, root, log)
            _check_md5(root / chosen.file, chosen.md5, log)
            log(f"unpacking {root / chosen.file}")
            with long_step(f"unpacking {chosen.file}"):
                extract_archive(root / chosen.file, root)
    except OSError as error:
        raise ConfigError(f"{root}: {chosen.file} cannot be unpacked there: {error.strerror or error}") from error
    return True


def _explain_manual_download(manifest: Manifest) -> str:
    urls = [archive.url for archive in manifest.archives if archive.url]
    if urls:
        return f"fetch {urls[0]} into --root by hand and run the command again"
    if any(archive.nested for archive in manifest.archives):
        return "get it from image-net.org (an account is needed); torchvision.datasets.ImageNet unpacks it"
    return "it is part of imagenet"


def _choose_archive(archives: list[Archive], size: int) -> Archive:
    """The smallest archive whose images have at least the pack's size, else the largest."""

    def pixels(archive: Archive) -> float:
        return float("inf") if archive.size is None else archive.size

    enough = [archive for archive in archives if pixels(archive) >= size]
    return min(enough, key=pixels) if enough else max(archives, key=pixels)


def _fetch(archive: Archive, root: Path, log: Callable[[str], None]) -> None:
    from torchvision.datasets.utils import download_url  # takes 5 s to import, so only for a download

    log(f"fetching {archive.url}")
    try:
        download_url(str(archive.url), str(root), archive.file, archive.md5)
    except Exception as error:  # urllib, ssl and torchvision each raise their own exceptions
        raise ConfigError(f"--download: {archive.url} could not be fetched into {root}: {error}") from error


def _check_md5(path: Path, md5: str | None, log: Callable[[str], None]) -> None:
    if md5 is None:
        log(f"{path}: no known checksum; used unverified")
        return
    with open(path, "rb") as file, long_step(f"checksum of {path}"):
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise ConfigError(f"{path} is damaged or not the official file (md5 {found}, expected {md5}); fetch it again")


def extract_archive(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive into a folder by way of a subfolder, so that a half-unpacked archive is never taken
    for the dataset. Raises ConfigError for a member that would lie outside, or is a link or a device."""
    aside = folder / f"unpacking-{archive.name}"
    shutil.rmtree(aside, ignore_errors=True)  # left by a killed run
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, aside)
        else:
            _untar(archive, aside)
        for path in aside.iterdir():
            if (folder / path.name).exists():
                raise ConfigError(f"{folder / path.name} is there already; remove it, or give a root without it")
            path.rename(folder / path.name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ConfigError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _check_member_inside(archive_member: str, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        raise tarfile.TarError(f"its member {archive_member!r} would lie outside of the folder")


def _untar(archive: Path, folder: Path) -> None:
    """Only folders and regular files, written by hand: tarfile's own filter needs Python 3.11.4."""
    with tarfile.open(archive) as file:
        folder.mkdir()
        for member in file:
            _check_member_inside(member.name, member.name)
            to = folder / member.name
            if member.isdir():
                to.mkdir(parents=True, exist_ok=True)
                continue
            content = file.extractfile(member) if member.isreg() else None
            if content is None:
                raise tarfile.TarError(f"its member {member.name!r} is a link or a device")
            to.parent.mkdir(parents=True, exist_ok=True)
            with content, open(to, "wb") as out:
                shutil.copyfileobj(content, out)


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            _check_member_inside(member.filename, member.filename)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise zipfile.BadZipFile(f"its member {member.filename!r} is a link or a device")
        needed = sum(member.file_size for member in file.infolist())
        folder.mkdir()
        if needed > _free_bytes(folder):
            raise ConfigError(f"{folder.parent}: {archive.name} unpacks to {needed:,} bytes, which do not fit there")
        file.extractall(folder)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free
