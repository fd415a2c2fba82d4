"""Which data sets are on this machine, without torch and without reading an image."""

import os
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.data.packs.format import list_file_sizes, read_record
from paribus.data.trees.manifest import load_manifest
from paribus.data.trees.names import list_manifest_names
from paribus.data.trees.tree import find_tree
from paribus.doctor.finding import Finding

CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}  # as in data/cifar.py


def data_root() -> Path:
    return Path(os.environ.get("PARIBUS_DATA") or "data").expanduser()


def check_data() -> Finding:
    """The data folder and the sets in it. The digits, with which quickstart trains, come with scikit-learn."""
    root, given = data_root(), bool(os.environ.get("PARIBUS_DATA"))
    fetch = "data.download=true fetches CIFAR, paribus data prepare imagenette --download fetches Imagenette"
    if not root.is_dir():
        found = f"PARIBUS_DATA={root} is not a folder" if given else "no folder ./data, and PARIBUS_DATA is not set"
        advice = f"set PARIBUS_DATA to the folder of your data sets; {fetch}; experiment=quickstart needs none"
        return Finding("data", "missing", found, advice)
    names = list_sets(root)
    if not names:
        return Finding("data", "missing", f"{root} has no known data set", f"{fetch}; paribus data list names them")
    return Finding("data", "ok", f"{root} has {format_list(names, most=12)}")


def list_sets(root: Path) -> list[str]:
    """The sets whose files, as they were published, lie in a folder."""
    found = [name for name, folder in CIFAR_FOLDERS.items() if (root / folder).is_dir()]
    for name in list_manifest_names():
        try:
            find_tree(root, load_manifest(name))
        except ConfigError:
            continue
        found.append(name)
    return found


def check_packs() -> list[Finding]:
    """One finding for each pack in the data folder; none without packs."""
    return [check_pack(path.parent) for path in sorted((data_root() / "packed").glob("*/pack.json"))]


def check_pack(folder: Path) -> Finding:
    """Whether a pack's files are there and as long as they should be; `paribus data check` reads them."""
    name = f"pack {folder.name}"
    try:
        record = read_record(folder)
    except ConfigError as error:
        return Finding(name, "missing", str(error), "make it again with paribus data prepare")
    assert record is not None
    wrong = [
        file
        for file, size in list_file_sizes(record).items()
        if not (folder / file).is_file() or (folder / file).stat().st_size != size
    ]
    if wrong:
        advice = f"make it again: paribus data check {record.name} says how"
        return Finding(name, "missing", f"{format_list(wrong)}: not there, or cut short", advice)
    counts = ", ".join(f"{split} {s.images:,}" for split, s in record.splits.items())
    return Finding(name, "ok", f"{record.name} at {record.size} pixels: {counts}")
