"""The arguments of `paribus bench` and its sub-commands."""

from paribus.cli.options import Parser, add_config_dir, completes, count, exit_codes, path
from paribus.core.exit_codes import FAILED, OK

TECHNIQUES = ("cutmix", "mixup", "adamp", "sgdp", "rexnet", "pit")  # of paribus.bench.techniques.cases, without torch


def describe(parser: Parser) -> None:
    parser.description = "Measure speed on this machine against the other implementations installed."
    parser.epilog = (
        "Examples:\n"
        "  paribus bench techniques cutmix    one technique against the public implementations; minutes\n"
        "  paribus bench loop --quick         the smallest case of each, fewer repeats"
    )


def add_techniques(parser: Parser) -> None:
    parser.description = (
        "Check each implementation against the others, then time them in turns. The table reports by how much a target "
        "is met or missed; a missed target is not a failure. Of any other technique, yours too, a training step with "
        "it is timed beside one without."
    )
    _add_options(parser, "15, quick 5")
    names = parser.add_argument(
        "names",
        nargs="*",
        default=[],
        metavar="NAME",
        help=f"{', '.join(TECHNIQUES)} (all if none is given), or any other",
    )
    completes(names, TECHNIQUES)
    add_config_dir(parser)


def add_loop(parser: Parser) -> None:
    parser.description = (
        "Samples per second of the whole training loop against the bare step (forward, backward, optimizer) on one "
        "fixed batch, in turns, on the smallest net and on ResNet-18 at 32 pixels; where a step's time goes; and on "
        "CUDA each switch by itself. The loop's weights are checked against the same steps in plain PyTorch first."
    )
    _add_options(parser, "15, quick 5")


def add_data(parser: Parser) -> None:
    parser.description = (
        "Images per second of the training input, against torchvision's transforms in torch's DataLoader and timm's "
        "create_loader, each checked to deliver the right images. Each sample lasts a second."
    )
    _add_options(parser, "7, quick 3")
    root = parser.add_argument(
        "--root", type=path, metavar="DIR", help="a tree with train/CLASS/*.JPEG for the folder case"
    )
    completes(root, "folder")
    parser.add_argument("--only", metavar="WORD", help="only cases with this word in the title")


def add_start(parser: Parser) -> None:
    parser.description = (
        "Wall time of whole fresh processes: an import, --help, a one-step training; and the phases of a start up to "
        "the first step."
    )
    _add_options(parser, "7, quick 3")


def _add_options(parser: Parser, repeats: str) -> None:
    """The options that all benches have. repeats: how many there are without --repeats, in words."""
    parser.epilog = exit_codes({OK: "measured", FAILED: "an implementation gave a wrong result or failed"})
    device = parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    completes(device, ("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=count, metavar="N", help="of torch on the CPU (default: all cores)")
    parser.add_argument("--repeats", type=count, metavar="N", help=f"samples of each (default: {repeats})")
    parser.add_argument("--quick", action="store_true", help="the smallest case of each, fewer repeats")
    for flag, metavar, text in (
        ("--out", "FILE.md", "write the table there instead of printing it"),
        ("--json", "FILE", "write everything, including every sample, as JSON"),
    ):
        completes(parser.add_argument(flag, type=path, metavar=metavar, help=text), "file")
