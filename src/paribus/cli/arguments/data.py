"""The arguments of `paribus data` and its sub-commands."""

from paribus.cli.options import Parser, completes, exit_codes, path, whole_number
from paribus.core.exit_codes import BAD_CONFIG, OK
from paribus.data.trees.names import FOLDER, list_manifest_names


def describe(parser: Parser) -> None:
    parser.description = "Sets of images: their trees checked, packed once, listed."
    parser.epilog = (
        "Examples:\n"
        "  paribus data prepare imagenette --root DIR --download    check a set's tree and pack it at 160 pixels\n"
        "  paribus data check imagenette --root DIR --deep          are the tree and its packs as they should be?\n"
        "  paribus data list                                        the sets known, and which are there"
    )


def add_prepare(parser: Parser) -> None:
    parser.description = (
        "Compare a set's tree of images with its manifest and pack it: pixels at one size, read without decoding. "
        "A pack that is up to date is left alone, and a run that was stopped is continued by the same command."
    )
    parser.epilog = exit_codes({OK: "packed, or packed before"})
    _add_name(parser)
    _add_root(parser)
    parser.add_argument(
        "--size",
        type=whole_number(1, 4096),
        default=160,
        metavar="PIXELS",
        help="of packed images, pixels a side (default: 160)",
    )
    _add_out(parser, "ROOT/packed/NAME-SIZE")
    parser.add_argument(
        "--workers", type=whole_number(1, 4096), metavar="N", help="processes that decode (default: the cores)"
    )
    parser.add_argument("--download", action="store_true", help="fetch the set if it is not there (imagenette)")
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="for images that do not decode (default: raise)"
    )
    parser.add_argument("--allow-missing", action="store_true", help="take a tree that lacks images or classes")
    _add_list(parser, "training images to take, one file name a line")


def add_check(parser: Parser) -> None:
    parser.description = "Compare a tree with its manifest, and its packs with the tree and their checksums."
    parser.epilog = exit_codes({OK: "as they should be", BAD_CONFIG: "the input, the tree or a pack is wrong"})
    _add_name(parser)
    _add_root(parser)
    _add_out(parser, "all ROOT/packed/NAME-*")
    parser.add_argument(
        "--deep", action="store_true", help="read all pixels, not only the first and last of each split"
    )
    parser.add_argument("--allow-missing", action="store_true", help="a tree that lacks images or classes is no fault")
    _add_list(parser, "the training images that were taken, as for prepare")


def add_list(parser: Parser) -> None:
    parser.description = "List the sets that have a manifest, and where they are found under the root."
    parser.epilog = exit_codes()
    _add_root(parser)


def _add_name(parser: Parser) -> None:
    known = list_manifest_names()
    name = parser.add_argument(
        "name", metavar="NAME", help=f"{', '.join(known)}; {FOLDER}: any tree with train/ and val/"
    )
    completes(name, "data set")


def _add_root(parser: Parser) -> None:
    root = parser.add_argument(
        "--root", type=path, metavar="DIR", help="the tree, or the folder it lies in (default: PARIBUS_DATA, or data)"
    )
    completes(root, "folder")


def _add_out(parser: Parser, default: str) -> None:
    out = parser.add_argument("--out", type=path, metavar="DIR", help=f"the pack's folder (default: {default})")
    completes(out, "folder")


def _add_list(parser: Parser, text: str) -> None:
    completes(parser.add_argument("--list", type=path, metavar="FILE", help=text), "file")
