"""The arguments of `paribus doctor`."""

from paribus.cli.options import Parser, add_config_dir, amount, completes, exit_codes, path
from paribus.core.exit_codes import FAILED, OK

MINUTES = 10.0


def add_doctor(parser: Parser) -> None:
    parser.description = (
        "Without words: what this machine has and lacks, one line each with the remedy, in seconds. With overrides as "
        "for paribus train: whether what that recipe needs is there. With gpu: in ten minutes, whether a GPU computes "
        "what the CPU does, whether a step ever waits for it, and how fast it is, as a table and a JSON for "
        "experiments/bench/."
    )
    parser.epilog = (
        "Examples:\n"
        "  paribus doctor                                     facts, and what is missing\n"
        "  paribus doctor experiment=imagenette_resnet50      data, network, device, free space of that recipe\n"
        "  paribus doctor gpu                                 ten minutes; --only WORD runs some checks again\n\n"
        + exit_codes(
            {
                OK: "all is there, or every check of the GPU passed",
                FAILED: "something that the named recipe needs is missing, or a check of the GPU failed",
            }
        )
    )
    words = parser.add_argument(
        "words", nargs="*", default=[], metavar="gpu|KEY=VALUE", help="gpu, or the overrides of a recipe"
    )
    completes(words, "doctor")
    add_config_dir(parser)
    parser.add_argument("--json", type=path, metavar="FILE", help="write everything as JSON (gpu: ./doctor-NAME.json)")
    gpu = parser.add_argument_group("of doctor gpu")
    device = gpu.add_argument(
        "--device", default="cuda", help="cuda (default), cuda:N, or cpu to try the checks themselves"
    )
    completes(device, ("cuda", "cpu"))
    gpu.add_argument("--quick", action="store_true", help="the smallest sizes, and fewer recipes")
    gpu.add_argument(
        "--minutes", type=amount, default=MINUTES, metavar="N", help="checks that do not fit in are listed, not run"
    )
    gpu.add_argument("--only", metavar="WORD", default="", help="only checks with this word in part or name")
    completes(gpu.add_argument("--out", type=path, metavar="FILE.md", help="write the table there"), "file")
