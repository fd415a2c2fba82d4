"""`paribus data check`: compare a tree with its manifest, and its packs with the tree. Needs no torch."""

import argparse
from pathlib import Path

from paribus.cli.data.common import describe_pixels, root_folder
from paribus.core.cores import count_cores
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.exit_codes import OK
from paribus.core.formatting import format_count, format_list
from paribus.core.long_step import long_step
from paribus.data.packs.format import (
    default_folder,
    explain_source_change,
    find_faults,
    format_prepare_command,
    read_record,
)
from paribus.data.packs.prepare import PrepareRequest, SourceInspection, inspect_source
from paribus.data.packs.write import ProgressSink
from paribus.data.trees.facts import FACTS_FILE, check_matched, read_facts
from paribus.data.trees.manifest import load_manifest
from paribus.data.trees.names import FOLDER
from paribus.data.trees.tree import find_tree
from paribus.data.trees.undecodable import find_undecodable


def run(args: argparse.Namespace) -> int:
    root = root_folder(args)
    usual = sorted((root / "packed").glob(f"{args.name}-*/pack.json"))
    packs = [args.out] if args.out else [path.parent for path in usual]
    wrong, tree = _check_tree(args, root, bool(packs))
    undecodable = _decode_files(tree) if tree and args.deep else []
    for folder in packs:
        found = _check_pack(folder, args.name, root, args.deep)
        for fault in found:
            print(f"pack: {fault}")
        wrong += found
    if not packs:
        folder = default_folder(root, args.name, 160)
        print(f"no pack; make one with: {format_prepare_command(args.name, 160, folder, root)}")
    if wrong:
        more = f" (and {len(wrong) - 1} more, above)" if len(wrong) > 1 else ""
        raise ConfigError(f"{args.name} failed the check: {wrong[0]}{more}")
    if undecodable and tree:
        n = format_count(len(undecodable), "file")
        raise RunFailed(f"{n} of {tree.tree} did not decode (above); data.on_error=skip does without such files")
    return OK


def _check_tree(args: argparse.Namespace, root: Path, packed: bool) -> tuple[list[str], SourceInspection | None]:
    """What is wrong with the tree, and the tree if nothing is. A missing one is not a fault where the data set is
    packed."""
    known = None if args.name == FOLDER else load_manifest(args.name)
    wanted = PrepareRequest(name=args.name, root=root, allow_missing=args.allow_missing, names=args.list)
    there = False
    try:
        find_tree(root, known)
        there = True
        tree = inspect_source(wanted, ProgressSink(print, lambda total, before: lambda n: None))
        _check_facts(tree)
    except ConfigError as error:
        print(f"tree: {error}")
        return [str(error)] if there or not packed else [], None
    if not args.deep:
        print(f"{tree.tree}: files were listed, their pixels not read; --deep decodes every file")
    return [], tree


def _check_facts(tree: SourceInspection) -> None:
    """Say what the tree's facts.csv tells of its images. Raises ConfigError for a line that is wrong."""
    if (table := read_facts(tree.tree)) is None:
        return
    warning = check_matched(tree.tree, table, (path for part in tree.parts.values() for path in part.paths))
    print(f"{tree.tree / FACTS_FILE}: {format_list(table.names)}, {format_count(len(table.lines), 'line')}")
    if warning:
        print(f"warning: {warning}")


def _decode_files(tree: SourceInspection) -> list[str]:
    """The files that do not decode, a line each, which are printed too."""
    paths = [path for part in tree.parts.values() for path in part.paths]
    with long_step("decoding", len(paths), "files") as advance:
        found = list(find_undecodable(tree.tree, paths, count_cores(), advance))
    for line in found:
        print(f"tree: {line}")
    if not found:
        print(f"{tree.tree}: all {format_count(len(paths), 'file')} decode")
    return found


def _check_pack(folder: Path, name: str, root: Path, deep: bool) -> list[str]:
    """What is wrong with a pack; prints its description."""
    try:
        record = read_record(folder)
        if record is None:
            return [f"{folder}: no pack there"]
        counts = ", ".join(f"{split} {s.images:,}" for split, s in record.splits.items())
        skipped, chosen = sum(len(s.skipped) for s in record.splits.values()), record.rule.get("chosen", "")
        print(f"{folder}: {describe_pixels(record)}: {counts}; {skipped:,} skipped; {chosen}")
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
        remake = format_prepare_command(name, record.size, folder, root, record, listed, record.channels)
        found[-1] += f"; make it again with: {remake}"
    else:
        what = "labels and all pixels" if deep else "lengths, labels and the first and last pixels"
        print(f"{folder}: {what} are as they were packed")
    return found
