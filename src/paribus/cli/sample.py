"""`paribus sample RUN`: images of a trained generator as files, and a grid of them."""

import argparse

from paribus.cli.arguments.trained import SAMPLE_KEYS, split_run
from paribus.core.exit_codes import OK
from paribus.core.formatting import format_count
from paribus.core.runfolder import SAMPLES
from paribus.runs.sample import open_generator, write_samples
from paribus.runs.saved_run import load_saved_run


def run(args: argparse.Namespace) -> int:
    where, overrides = split_run(args, "run folder or checkpoint")
    found = load_saved_run(where, overrides, SAMPLE_KEYS)
    generator = open_generator(found)
    names = [name for text in args.classes for name in text.split(",") if name]
    classes, folder = generator.find_classes(names), args.out or found.folder / SAMPLES
    grid = write_samples(generator, folder, args.n, args.seed, classes, args.batch_size)
    print(f"{found.name} after step {found.checkpoint.step}: {format_count(args.n, 'image')} in {folder}")
    print(grid)
    return OK
