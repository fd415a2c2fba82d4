"""The arguments of `paribus check` and `paribus new`, for who brings a technique, a data set or a study."""

from paribus.cli.options import Parser, add_config_dir, completes, exit_codes, path
from paribus.core.exit_codes import FAILED, OK


def describe_check(parser: Parser) -> None:
    parser.description = "Check that a technique, ours or yours, holds what every technique must hold."
    parser.epilog = "Example:\n  paribus check technique mine --config-dir configs"


def add_check_technique(parser: Parser) -> None:
    parser.description = (
        "Print a technique's card, train it a dozen times for seconds on made-up images, and print a table: each "
        "check, whether it holds, and what was found. The tests of paribus run the same battery over its techniques."
    )
    parser.epilog = (
        "Overrides: packages=[NAME] where the overlay names none, experiment=NAME where the technique fits none of "
        "the smoke recipes, and any other key of the recipe it is checked on.\n\n"
        + exit_codes({OK: "every check holds", FAILED: "one does not"})
    )
    name = parser.add_argument(
        "name", metavar="NAME", help="of configs/technique/NAME.yaml, or of DIR/technique/NAME.yaml"
    )
    completes(name, "technique")
    words = parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the recipe")
    completes(words, "override")
    add_config_dir(parser)


def describe_new(parser: Parser) -> None:
    parser.description = "Write a small commented template that works at once, and print the commands to go on."
    parser.epilog = (
        "Examples:\n"
        "  paribus new technique mine    a package, its overlay and a test\n"
        "  paribus new data mine         a dataset class and its config\n"
        "  paribus new study mine        a study of two arms on 200 digits"
    )


def add_new(parser: Parser) -> None:
    parser.description = (
        "Write the template into a folder and print the commands to go on. Files that are there are never overwritten."
    )
    parser.epilog = exit_codes({OK: "written"})
    parser.add_argument("name", metavar="NAME", help="lower-case letters, digits and _; also the name of the package")
    into = parser.add_argument(
        "--into", type=path, default=path("."), metavar="DIR", help="the folder to write into (default: this one)"
    )
    completes(into, "folder")
