"""The facts of a pack's images (trees/facts.py): facts.npz beside its pixels, SPLIT/NAME for each fact of a split."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from paribus.core.errors import ConfigError
from paribus.data.packs.beside import Array, SideFile, is_current, read_side_file, write_side_file
from paribus.data.packs.format import PackRecord
from paribus.data.trees.facts import FACTS_FILE, check_matched, hash_facts, match_facts, read_facts
from paribus.data.trees.tree import SPLITS, Listing

PACKED_FACTS = "facts.npz"


def write_packed_facts(
    folder: Path, record: PackRecord, tree: Path, parts: Mapping[str, Listing], log: Callable[[str], None]
) -> None:
    """Bring a pack's facts up to date with the tree's. parts: what the pack was made from. Raises ConfigError."""
    path, source = folder / PACKED_FACTS, hash_facts(tree)
    table = read_facts(tree)
    if table is None:
        path.unlink(missing_ok=True)
        return
    if is_current(path, source, record):
        return
    found = dict[str, dict[str, Array]]()
    for split in SPLITS:
        ids = np.frombuffer((folder / record.splits[split].ids).read_bytes(), "<i8").tolist()
        found[split] = match_facts(table, [parts[split].paths[i] for i in ids])
    if warning := check_matched(tree, table, (path for part in parts.values() for path in part.paths)):
        log(f"warning: {warning}")
    arrays = {f"{split}/{name}": values for split, facts in found.items() for name, values in facts.items()}
    write_side_file(path, SideFile(arrays, source, record.checksum))
    log(f"{path}: {', '.join(sorted({name for facts in found.values() for name in facts}))}")


def read_packed_facts(folder: Path, record: PackRecord, tree: Path | None, command: str) -> dict[str, dict[str, Array]]:
    """The facts of each split, (n,) int64 or float32 by name. tree and command: as in `read_packed_boxes`. Raises
    ConfigError, also where the tree has facts and the pack has none: training would silently be without them."""
    path, file = folder / PACKED_FACTS, None if tree is None else tree / FACTS_FILE
    source = "" if tree is None else hash_facts(tree)
    side = read_side_file(path, record, source, file, command)
    if side is None and source:
        raise ConfigError(f"{folder} has nothing of {file}, which is newer; add it with: {command}")
    made: dict[str, dict[str, Array]] = {split: {} for split in SPLITS}
    for name, values in {} if side is None else side.arrays.items():
        split, _, fact = name.partition("/")
        made[split][fact] = values
    return made
