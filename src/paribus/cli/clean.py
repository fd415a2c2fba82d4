"""`paribus clean`: lists what runs and packs left behind that can go, with sizes; --yes removes it. Needs no torch."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from paribus.cli.arguments.others import DEFAULT_RUNS
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import FAILED, OK
from paribus.core.formatting import format_bytes, format_count
from paribus.core.runfolder import CONFIG
from paribus.runs.leftovers import (
    NEEDS_ITS_OWN_FLAG,
    Leftover,
    find_folders,
    find_leftovers,
    find_named_checkpoints,
    remove,
)

_WHY = {
    "checkpoints": "of finished runs, besides the last",
    "temporary files": "of writes that were cut off",
    "unfinished pack": "paribus data prepare would go on from it",
    "unreadable pack": "of a format that is not read any more",
    NEEDS_ITS_OWN_FLAG: "cannot be made again; removed only with --packs",
}


def run(args: argparse.Namespace) -> int:
    top: Path = args.folder
    if not top.is_dir() and top != Path(DEFAULT_RUNS):  # which is not there before the first run
        raise ConfigError(f"{top}: no such folder")
    others = [
        path
        for pattern in ("study.yaml", "plan.jsonl", "tune/plan.jsonl")
        for path in Path("experiments").glob(f"*/{pattern}")
    ]
    found = list(find_leftovers(top, others))
    chosen = [one for one in found if args.packs or one.kind != NEEDS_ITS_OWN_FLAG]
    if args.json:
        print(json.dumps([_plain(one, one in chosen) for one in found], indent=2))
    elif found:
        print("\n".join(_describe(found)))
    if not chosen:
        if not args.json:
            print(f"nothing {'else ' if found else ''}to remove under {top}")
        return OK
    total = format_bytes(sum(one.size for one in chosen))
    if not args.yes:
        if not args.json:
            print(f"\n{total} in all; --yes removes {'it' if len(chosen) == len(found) else 'all but those packs'}")
        return OK
    freed, failures = _remove(top, others, chosen)
    if not args.json:
        print(f"\n{format_bytes(freed)} removed")
    return FAILED if failures else OK


def _remove(top: Path, others: Sequence[Path], chosen: Sequence[Leftover]) -> tuple[int, int]:
    """Bytes that were freed, and how many folders could not be cleaned, each of which is told."""
    named = find_named_checkpoints([*(run / CONFIG for run in find_folders(top)[0]), *others])
    freed = failures = 0
    for one in chosen:
        try:
            freed += remove(one, named)
        except ConfigError as error:  # somebody has begun to use it
            failures += 1
            print(f"kept: {error}", file=sys.stderr)
        except OSError as error:
            failures += 1
            print(f"kept: {error.filename or one.folder}: {error.strerror or error}", file=sys.stderr)
    return freed, failures


def _describe(found: Sequence[Leftover]) -> list[str]:
    """By kind, a line for each folder."""
    lines: list[str] = []
    for kind, why in _WHY.items():
        ones = [one for one in found if one.kind == kind]
        if ones:
            lines.append(f"{kind}, {format_bytes(sum(one.size for one in ones))}: {why}")
            lines += [
                f"  {format_bytes(one.size):>9}  {one.folder} ({format_count(len(one.files), 'file')})" for one in ones
            ]
    return lines


def _plain(one: Leftover, chosen: bool) -> dict[str, object]:
    return {
        "kind": one.kind,
        "folder": str(one.folder),
        "files": [str(path) for path in one.files],
        "bytes": one.size,
        "removed_by_yes": chosen,
    }
