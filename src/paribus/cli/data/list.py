"""`paribus data list`: the data sets that have a manifest, and where they are. Needs no torch."""

import argparse

from paribus.cli.data.common import root_folder
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.data.trees.manifest import load_manifest
from paribus.data.trees.names import FOLDER, list_manifest_names
from paribus.data.trees.tree import find_tree


def run(args: argparse.Namespace) -> int:
    root = root_folder(args)
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
    print(f"{FOLDER}: any tree with train/ and val/, one folder per class in each")
    return OK
