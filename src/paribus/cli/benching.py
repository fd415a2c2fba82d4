"""`paribus bench`: how fast things are here, beside what else is installed. So far: techniques."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from paribus.core.errors import ConfigError

TECHNIQUES = ("cutmix", "mixup", "adamp", "sgdp", "rexnet", "pit")  # those of paribus.bench.techniques, without torch
PACKAGES = ("paribus", "torch", "torchvision", "timm", "adamp", "numpy")
HELP = """\
usage: paribus bench techniques [NAME ...] [options]

  paribus bench techniques            each technique beside the public implementations installed; minutes
  paribus bench techniques --quick    the smallest case of each
  paribus bench techniques --help     every option"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"bench techniques: {message} (paribus bench techniques --help)")


def parser() -> argparse.ArgumentParser:
    made = _Parser(
        prog="paribus bench techniques",
        description="Check each implementation against the others, then time them in turns. The table says by how much "
        "a target is met or missed; that is no failure.",
        epilog="Exit codes: 0 measured; 1 an implementation gave a wrong result or broke; 2 the input is wrong.",
    )
    made.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TECHNIQUES)}; all if none is given")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    made.add_argument("--threads", type=_count, help="of torch on the CPU (default: all cores)")
    made.add_argument("--repeats", type=_count, help="samples of each implementation (default: 15, quick 5)")
    made.add_argument("--quick", action="store_true", help="the smallest case of each technique, fewer repeats")
    made.add_argument("--out", type=Path, metavar="FILE.md", help="write the table there instead of printing it")
    made.add_argument("--json", type=Path, metavar="FILE", help="write everything, every sample too, as JSON")
    return made


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, found {text!r}")
    return int(text)


def run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return 0
    command = BENCHES.get(arguments[0])
    if command is None:
        raise ConfigError(f"bench {arguments[0]}: there is no such bench; there is {', '.join(BENCHES)}")
    return command(arguments[1:])


def techniques(arguments: list[str]) -> int:
    """Measure, print or write the table, and say whether every result was right."""
    try:
        options = parser().parse_args(arguments)
    except SystemExit:  # --help has printed
        return 0
    unknown = [name for name in options.names if name not in TECHNIQUES]
    if unknown:
        raise ConfigError(f"bench techniques: no bench of {', '.join(unknown)}; there are {', '.join(TECHNIQUES)}")
    for path in (options.out, options.json):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"bench techniques: {path.parent} is no folder; make it first, or choose another file")

    from paribus.bench.contender import Scope
    from paribus.bench.table import as_data, as_markdown
    from paribus.bench.techniques import FULL, QUICK, Effort, run
    from paribus.core.build import checked
    from paribus.engine.distributed import World
    from paribus.engine.runtime import Runtime, prepare

    runtime = checked(Runtime, {"device": options.device, "threads": options.threads or "auto"}, "bench")
    device = prepare(runtime, World())
    usual = QUICK if options.quick else FULL
    effort = Effort(options.repeats or usual.rounds, usual.least)
    results = run(options.names or TECHNIQUES, Scope(device, options.quick), effort, _tell)
    data = as_data(results, about(arguments, device))
    page = as_markdown(data)
    if options.json is not None:
        options.json.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    if options.out is not None:
        options.out.write_text(page)
    else:
        print(page, end="")
    return 0 if all(result.right for result in results) else 1


def _tell(line: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)


def about(arguments: Sequence[str], device: Any) -> dict[str, Any]:
    """Date, command, hardware and versions."""
    import torch

    from paribus.engine.provenance import code_digest, cpu_name, version
    from paribus.engine.runtime import cores

    cuda = device.type == "cuda"
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": shlex.join(["paribus", "bench", "techniques", *arguments]),
        "machine": {
            "GPU": torch.cuda.get_device_name(device) if cuda else None,
            "CPU": cpu_name(),
            "cores": cores(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "CUDA": torch.version.cuda if cuda else None,
        },
        "packages": {name: version(name) for name in PACKAGES},
        "code": code_digest(),
    }


BENCHES: dict[str, Callable[[list[str]], int]] = {"techniques": techniques}
