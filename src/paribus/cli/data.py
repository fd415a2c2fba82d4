"""`paribus data`: sets of images checked, packed and listed. Needs no torch (fetching an archive does)."""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from paribus.cli.options import Parser, parsed
from paribus.core.errors import ConfigError
from paribus.core.terminal import find_console
from paribus.data.packs.format import (
    default_folder,
    explain_source_change,
    find_faults,
    format_prepare_command,
    read_record,
)
from paribus.data.packs.prepare import PrepareRequest, inspect_source, prepare
from paribus.data.packs.write import ProgressSink
from paribus.data.trees.manifest import FOLDER, list_manifest_names, load_manifest
from paribus.data.trees.tree import find_tree

HELP = """\
usage: paribus data prepare NAME --root DIR [--size 160] [options]    check a set's tree and pack it
       paribus data check NAME --root DIR [--deep]                    the tree and its packs, as they should be?
       paribus data list [--root DIR]                                 the sets known, and which are there

  paribus data prepare --help    every option"""


def run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if arguments[0] not in ACTIONS:
        raise ConfigError(f"data {arguments[0]}: no such action; there are {', '.join(ACTIONS)} (paribus data --help)")
    make, action = ACTIONS[arguments[0]]
    asked = parsed(make(), arguments[1:])
    return 0 if asked is None else action(asked)


def _parser(action: str, description: str, name: bool = True) -> argparse.ArgumentParser:
    made = Parser(prog=f"paribus data {action}", description=description)
    if name:
        made.add_argument(
            "name", metavar="NAME", help=f"{', '.join(list_manifest_names())}; {FOLDER}: any tree with train/ and val/"
        )
    made.add_argument("--root", type=_path, metavar="DIR", help="the tree or the folder it lies in, else PARIBUS_DATA")
    return made


def _prepare_parser() -> argparse.ArgumentParser:
    made = _parser(
        "prepare",
        "Compare a set's tree of images with its manifest and pack it: pixels at one size, read without decoding. "
        "The same command goes on with a run that was stopped, and leaves a pack alone that is up to date.",
    )
    made.add_argument("--size", type=_count, default=160, help="of packed images, pixels a side (default: 160)")
    made.add_argument("--out", type=_path, metavar="DIR", help="the pack's folder (default: ROOT/packed/NAME-SIZE)")
    made.add_argument("--workers", type=_count, default=_cores(), help="processes that decode (default: the cores)")
    made.add_argument("--download", action="store_true", help="fetch the set if it is not there (imagenette)")
    made.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="for images that do not decode")
    made.add_argument("--allow-missing", action="store_true", help="take a tree that lacks images or classes")
    made.add_argument("--list", type=_path, metavar="FILE", help="training images to take, one file name a line")
    return made


def _check_parser() -> argparse.ArgumentParser:
    made = _parser("check", "Compare a tree with its manifest, and its packs with the tree and their checksums.")
    made.add_argument("--out", type=_path, metavar="DIR", help="the pack's folder (default: all ROOT/packed/NAME-*)")
    made.add_argument("--deep", action="store_true", help="read all pixels, not only the first and last of each split")
    made.add_argument("--allow-missing", action="store_true", help="a tree that lacks images or classes is no fault")
    made.add_argument("--list", type=_path, metavar="FILE", help="as for prepare")
    return made


def _list_parser() -> argparse.ArgumentParser:
    return _parser("list", "The sets that have a manifest, and where they are found under the root.", name=False)


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 4096, found {text!r}")
    return int(text)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _root(asked: argparse.Namespace) -> Path:
    return asked.root or Path(os.environ.get("PARIBUS_DATA") or "data").expanduser()


def _prepared(asked: argparse.Namespace) -> int:
    wanted = PrepareRequest(
        name=asked.name,
        root=_root(asked),
        size=asked.size,
        out=asked.out,
        workers=asked.workers,
        download=asked.download,
        skip=asked.on_error == "skip",
        allow_missing=asked.allow_missing,
        names=asked.list,
    )
    with _progress() as (said, rate):
        record = prepare(wanted, said)
    counts = ", ".join(f"{split} {s.images:,}" for split, s in record.splits.items())
    print(f"{wanted.folder}: {record.name} at {record.size} pixels: {counts}, {len(record.classes):,} classes{rate()}")
    print(f"chosen: {record.rule.get('chosen', '')}")
    for reason in (reason for s in record.splits.values() for reason in s.skipped):
        print(f"skipped: {reason}")
    if skipped := sum(len(s.skipped) for s in record.splits.values()):
        print(f"{skipped:,} images skipped, listed above and in {wanted.folder / 'pack.json'}")
    return 0


@contextmanager
def _progress() -> Iterator[tuple[ProgressSink, Callable[[], str]]]:
    """A bar where there is a terminal; lines everywhere; and in words how fast it went."""
    screen, done, since = find_console(), 0, time.perf_counter()
    if screen is None:

        def begin(total: int, before: int) -> Callable[[int], None]:
            nonlocal since
            since = time.perf_counter()

            def advance(n: int) -> None:
                nonlocal done
                done += n

            return advance

        yield ProgressSink(print, begin), lambda: _rate(done, time.perf_counter() - since)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:

        def begin_bar(total: int, before: int) -> Callable[[int], None]:
            nonlocal since
            since = time.perf_counter()
            task = bar.add_task("", total=total, completed=before)

            def advance(n: int) -> None:
                nonlocal done
                done += n
                bar.advance(task, n)

            return advance

        yield (
            ProgressSink(lambda line: bar.console.print(line, soft_wrap=True), begin_bar),
            lambda: _rate(done, time.perf_counter() - since),
        )


def _rate(images: int, seconds: float) -> str:
    return f"; packed {images:,} in {seconds:.1f} s ({images / seconds:,.0f} a second)" if images else ""


def _checked(asked: argparse.Namespace) -> int:
    root = _root(asked)
    usual = sorted((root / "packed").glob(f"{asked.name}-*/pack.json"))
    packs = [asked.out] if asked.out else [path.parent for path in usual]
    wrong = _tree_faults(asked, root, bool(packs))
    for folder in packs:
        found = _pack_faults(folder, asked.name, root, asked.deep)
        for fault in found:
            print(f"pack: {fault}")
        wrong += found
    if not packs:
        folder = default_folder(root, asked.name, 160)
        print(f"no pack; make one with: {format_prepare_command(asked.name, 160, folder, root)}")
    if wrong:
        more = f" (and {len(wrong) - 1} more, above)" if len(wrong) > 1 else ""
        raise ConfigError(f"{asked.name} is not as it should be: {wrong[0]}{more}")
    return 0


def _tree_faults(asked: argparse.Namespace, root: Path, packed: bool) -> list[str]:
    """What is wrong with the tree. That there is none is no fault of a set that is packed."""
    known = None if asked.name == FOLDER else load_manifest(asked.name)
    wanted = PrepareRequest(name=asked.name, root=root, allow_missing=asked.allow_missing, names=asked.list)
    there = False
    try:
        find_tree(root, known)
        there = True
        inspect_source(wanted, ProgressSink(print, lambda total, before: lambda n: None))
    except ConfigError as error:
        print(f"tree: {error}")
        return [str(error)] if there or not packed else []
    return []


def _pack_faults(folder: Path, name: str, root: Path, deep: bool) -> list[str]:
    """What is wrong with a pack; prints what it is."""
    try:
        record = read_record(folder)
        if record is None:
            return [f"{folder}: no pack there"]
        counts = ", ".join(f"{split} {s.images:,}" for split, s in record.splits.items())
        skipped, chosen = sum(len(s.skipped) for s in record.splits.values()), record.rule.get("chosen", "")
        print(f"{folder}: {record.name} at {record.size} pixels: {counts}; {skipped:,} skipped; {chosen}")
        if record.partial:
            print(f"{folder}: a part of {name} only: {'; '.join(record.partial)}")
        found = list(find_faults(folder, record, deep))
        if why := explain_source_change(folder, record, root):
            found.append(f"{folder} was packed from other files: {why}")
    except ConfigError as error:
        return [str(error)]
    if record.name != name:
        found.append(f"{folder} is a pack of {record.name}, not of {name}")
    if found:
        listed = str(folder / record.names) if record.names else "FILE"
        found[-1] += f"; make it again with: {format_prepare_command(name, record.size, folder, root, record, listed)}"
    else:
        what = "labels and all pixels" if deep else "lengths, labels and the first and last pixels"
        print(f"{folder}: {what} are as they were packed")
    return found


def _listed(asked: argparse.Namespace) -> int:
    root = _root(asked)
    rows = [("name", "classes", "train", "val", "where")]
    for name in list_manifest_names():
        known = load_manifest(name)
        try:
            where = str(find_tree(root, known))
        except ConfigError:
            where = "–"
        packs = [path.parent.name for path in sorted((root / "packed").glob(f"{name}-*/pack.json"))]
        where += f" (packs: {', '.join(packs)})" if packs else ""
        train, val = (f"{n:,}" if n else "?" for n in (known.train, known.val))
        rows.append((name, f"{len(known.classes):,}", train, val, where))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3)), row[4]]
        print("  ".join(cells))
    print(f"{FOLDER}: any tree with train/ and val/, a folder a class in each")
    return 0


ACTIONS: dict[str, tuple[Callable[[], argparse.ArgumentParser], Callable[[argparse.Namespace], int]]] = {
    "prepare": (_prepare_parser, _prepared),
    "check": (_check_parser, _checked),
    "list": (_list_parser, _listed),
}
