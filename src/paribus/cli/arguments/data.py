"""The arguments of `paribus data` and its sub-commands."""

from paribus.cli.options import Parser, completes, exit_codes, path, whole_number
from paribus.core.exit_codes import BAD_CONFIG, FAILED, OK
from paribus.data.trees.names import FOLDER, list_manifest_names

LABEL_MAP_KEYS = ("data.", "packages", "runtime.")  # of a run's config that may differ; a dot: all keys below it


def describe(parser: Parser) -> None:
    parser.description = "Image data sets: check their trees, pack them once, list them."
    parser.epilog = (
        "Examples:\n"
        "  paribus data prepare imagenette --root DIR --download    check a data set's tree and pack it at 160 pixels\n"
        "  paribus data check imagenette --root DIR --deep          check the tree and its packs\n"
        "  paribus data list                                        the known data sets, and which are present\n"
        "  paribus data label-map RUN --out FILE                    what a network says of each place of each image"
    )


def add_prepare(parser: Parser) -> None:
    parser.description = (
        "Compare a data set's image tree with its manifest and pack it: pixels at one size, read without decoding. "
        "An up-to-date pack is kept, and an interrupted run is resumed by the same command."
    )
    parser.epilog = exit_codes({OK: "packed, or already packed"})
    _add_name(parser)
    _add_root(parser)
    parser.add_argument(
        "--size",
        type=whole_number(1, 4096),
        default=160,
        metavar="PIXELS",
        help="side of the packed images, in pixels (default: 160)",
    )
    parser.add_argument(
        "--channels",
        choices=("1", "3", "4"),
        default="3",
        help="of the pixels: 3, RGB; 1, grey; 4, RGB and alpha (default: 3)",
    )
    _add_out(parser, "ROOT/packed/NAME-SIZE")
    parser.add_argument(
        "--workers", type=whole_number(1, 4096), metavar="N", help="processes that decode (default: one per core)"
    )
    parser.add_argument("--download", action="store_true", help="download the data set if it is missing (imagenette)")
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="when an image does not decode (default: raise)"
    )
    parser.add_argument("--allow-missing", action="store_true", help="accept a tree that lacks images or classes")
    _add_list(parser, "training images to use, one file name per line")


def add_check(parser: Parser) -> None:
    parser.description = "Compare a tree with its manifest, and its packs with the tree and their checksums."
    parser.epilog = exit_codes(
        {OK: "valid", FAILED: "files do not decode (--deep)", BAD_CONFIG: "the input, the tree or a pack is wrong"}
    )
    _add_name(parser)
    _add_root(parser)
    _add_out(parser, "all ROOT/packed/NAME-*")
    parser.add_argument(
        "--deep",
        action="store_true",
        help="read all pixels: decode every file of the tree, and read packs whole, not only the first and last pixels",
    )
    parser.add_argument("--allow-missing", action="store_true", help="accept a tree that lacks images or classes")
    _add_list(parser, "the training images that were used, as for prepare")


def add_list(parser: Parser) -> None:
    parser.description = "List the data sets that have a manifest, and where they are under the root."
    parser.epilog = exit_codes()
    _add_root(parser)


def add_label_map(parser: Parser) -> None:
    parser.description = (
        "Apply the classifier of a trained network at each place of each training image, uncropped, and write the "
        "label-map file that technique=relabel trains with. The network has to end in a global average pool and one "
        "linear layer. The images are those of the run's own training set, or of what data.KEY=VALUE makes of it."
    )
    parser.epilog = "Overrides: data.KEY=VALUE, runtime.KEY=VALUE, packages=[NAME].\n\n" + exit_codes({OK: "written"})
    run = parser.add_argument(
        "run",
        metavar="RUN|CHECKPOINT|EXPORT",
        help="a run folder, one of its checkpoints, or a .safetensors of paribus export",
    )
    completes(run, "run")
    given = parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="overrides of the run's config")
    completes(given, "data override")
    out = parser.add_argument(
        "--out", type=path, metavar="FILE", help="the file (default: label-map-DATA.safetensors in the run folder)"
    )
    completes(out, "file")
    parser.add_argument(
        "--top", type=whole_number(1), default=5, metavar="K", help="classes that a cell stores (default: 5)"
    )
    parser.add_argument(
        "--size",
        type=whole_number(8, 4096),
        metavar="PIXELS",
        help="side of what the network sees, the whole image as a square (default: that of its training)",
    )
    parser.add_argument(
        "--batch-size", type=whole_number(1), default=256, metavar="N", help="images at a time (default: 256)"
    )


def _add_name(parser: Parser) -> None:
    known = list_manifest_names()
    name = parser.add_argument(
        "name", metavar="NAME", help=f"{', '.join(known)}; {FOLDER}: any tree with train/ and val/"
    )
    completes(name, "data set")


def _add_root(parser: Parser) -> None:
    root = parser.add_argument(
        "--root", type=path, metavar="DIR", help="the tree, or its parent folder (default: PARIBUS_DATA, or data)"
    )
    completes(root, "folder")


def _add_out(parser: Parser, default: str) -> None:
    out = parser.add_argument("--out", type=path, metavar="DIR", help=f"the pack's folder (default: {default})")
    completes(out, "folder")


def _add_list(parser: Parser, text: str) -> None:
    completes(parser.add_argument("--list", type=path, metavar="FILE", help=text), "file")
