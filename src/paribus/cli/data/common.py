"""What the commands of `paribus data` share."""

import argparse
import os
from pathlib import Path

from paribus.cli.options import path
from paribus.core.formatting import format_count
from paribus.data.packs.format import PackRecord


def describe_pixels(record: PackRecord) -> str:
    """A pack's data set and what its pixels are."""
    channels = "" if record.channels == 3 else f" and {format_count(record.channels, 'channel')}"
    return f"{record.name} at {record.size} pixels{channels}"


def root_folder(args: argparse.Namespace) -> Path:
    """The folder of the image trees."""
    return args.root or path(os.environ.get("PARIBUS_DATA") or "data")
