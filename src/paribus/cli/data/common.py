"""What the commands of `paribus data` share."""

import argparse
import os
from pathlib import Path

from paribus.cli.options import path


def root_folder(args: argparse.Namespace) -> Path:
    """The folder of the image trees."""
    return args.root or path(os.environ.get("PARIBUS_DATA") or "data")
