"""`paribus data label-map`: what a trained network says of each place of each training image, for technique=relabel."""

import argparse
from pathlib import Path

from paribus.cli.arguments.data import LABEL_MAP_KEYS
from paribus.cli.arguments.trained import split_run
from paribus.core.exit_codes import OK
from paribus.core.label_maps import write_maps
from paribus.runs.label_map import MadeMaps, make_label_maps
from paribus.runs.saved_run import load_saved_run


def run(args: argparse.Namespace) -> int:
    where, overrides = split_run(args, "run folder, checkpoint or export")
    # which images are read is settled once it is known that the checkpoint is of the run's own recipe
    found = load_saved_run(where, [o for o in overrides if not o.startswith("data.")], LABEL_MAP_KEYS)
    made = make_label_maps(found, overrides, LABEL_MAP_KEYS, args.top, args.size, args.batch_size)
    out = args.out or found.folder / f"label-map-{made.maps.about.data[:8]}.safetensors"
    write_maps(out, made.maps)
    describe(made, out)
    return OK


def describe(made: MadeMaps, out: Path) -> None:
    maps = made.maps
    (height, width), classes = maps.grid, maps.about.classes
    print(f"{out}: {len(maps.ids):,} images, {height}×{width} cells, {maps.top} of {classes} classes a cell")
    print(f"the mean over a map has the image's label as its greatest in {100 * made.agreement:.1f} % of the images")
    print(f"made in {maps.about.cost['seconds']:.1f} s; the run it trains knows it by")
    print(f"transforms.relabel.maps_sha256={made.checksum}")
