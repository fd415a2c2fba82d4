"""`paribus bench`: how fast things are here, beside what else is installed: techniques, the loop, data, the start."""

import argparse
import json
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from paribus.bench.harness.page import BenchReport, log_progress
from paribus.core.errors import ConfigError

if TYPE_CHECKING:
    from paribus.bench.harness.measure import Result

TECHNIQUES = (
    "cutmix",
    "mixup",
    "adamp",
    "sgdp",
    "rexnet",
    "pit",
)  # those of paribus.bench.techniques.cases, without torch
PACKAGES = ("paribus", "torch", "torchvision", "timm", "adamp", "numpy")
HELP = """\
usage: paribus bench techniques|loop|data|start [options]

  paribus bench techniques [NAME ...]   each technique beside the public implementations installed; minutes
  paribus bench loop                    the training loop beside the bare step, and where a step's time goes
  paribus bench data [--root DIR]       training input, images a second, beside torchvision's and timm's loaders
  paribus bench start                   seconds from a fresh process to the first step
  paribus bench ... --quick             the smallest case of each, fewer repeats
  paribus bench ... --help              every option"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        name = self.prog.removeprefix("paribus ")
        raise ConfigError(f"{name}: {message} ({self.prog} --help)")


def parser(name: str, description: str, repeats: str) -> argparse.ArgumentParser:
    """The options that all benches have. repeats: how many there are without --repeats, in words."""
    made = _Parser(
        prog=f"paribus bench {name}",
        description=description,
        epilog="Exit codes: 0 measured; 1 an implementation gave a wrong result or broke; 2 the input is wrong.",
    )
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    made.add_argument("--threads", type=_count, help="of torch on the CPU (default: all cores)")
    made.add_argument("--repeats", type=_count, help=f"samples of each (default: {repeats})")
    made.add_argument("--quick", action="store_true", help="the smallest case of each, fewer repeats")
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
    name, rest = arguments[0], arguments[1:]
    if name not in BENCHES:
        raise ConfigError(f"bench {name}: there is no such bench; there are {', '.join(BENCHES)}")
    make, measure = BENCHES[name]
    try:
        options = make().parse_args(rest)
    except SystemExit:  # --help has printed
        return 0
    for path in (options.out, options.json):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"bench {name}: {path.parent} is no folder; make it first, or choose another file")
    return _report(name, rest, options, measure)


def _report(name: str, arguments: list[str], options: Any, measure: Callable[[Any, Any], BenchReport]) -> int:
    """Measure, print or write the table, and say whether every result was right."""
    from paribus.bench.harness.table import format_page, results_to_dict
    from paribus.core.build import instantiate
    from paribus.engine.distributed import World
    from paribus.engine.runtime import Runtime, apply_runtime

    runtime = instantiate(Runtime, {"device": options.device, "threads": options.threads or "auto"}, "bench")
    device = apply_runtime(runtime, World())
    found = measure(options, device)
    data = results_to_dict(found.results, about([name, *arguments], device))
    data |= {"remarks": list(found.remarks), "tables": list(found.tables), "how": found.methodology}
    page = format_page(data, found.title)
    if options.json is not None:
        options.json.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    if options.out is not None:
        options.out.write_text(page)
    else:
        print(page, end="")
    return 0 if all(result.is_correct for result in found.results) else 1


def about(arguments: Sequence[str], device: Any) -> dict[str, Any]:
    """Date, command, hardware and versions."""
    import torch

    from paribus.engine.provenance import cpu_name, hash_code, package_version
    from paribus.engine.runtime import count_cores

    cuda = device.type == "cuda"
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": shlex.join(["paribus", "bench", *arguments]),
        "machine": {
            "GPU": torch.cuda.get_device_name(device) if cuda else None,
            "CPU": cpu_name(),
            "cores": count_cores(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "CUDA": torch.version.cuda if cuda else None,
        },
        "packages": {name: package_version(name) for name in PACKAGES},
        "code": hash_code(),
    }


def techniques_parser() -> argparse.ArgumentParser:
    made = parser(
        "techniques",
        "Check each implementation against the others, then time them in turns. The table says by how much a target is "
        "met or missed; that is no failure.",
        "15, quick 5",
    )
    made.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TECHNIQUES)}; all if none is given")
    return made


def techniques(options: Any, device: Any) -> BenchReport:
    unknown = [name for name in options.names if name not in TECHNIQUES]
    if unknown:
        raise ConfigError(f"bench techniques: no bench of {', '.join(unknown)}; there are {', '.join(TECHNIQUES)}")
    from paribus.bench.harness.implementation import Scope
    from paribus.bench.techniques.cases import FULL, QUICK, Effort, run

    usual = QUICK if options.quick else FULL
    effort = Effort(options.repeats or usual.rounds, usual.min_seconds)
    results = run(options.names or TECHNIQUES, Scope(device, options.quick), effort, log_progress)
    return BenchReport("The techniques beside their public implementations", results)


def loop_parser() -> argparse.ArgumentParser:
    return parser(
        "loop",
        "Samples a second of the whole training loop beside those of the bare step (forward, backward, optimizer) on "
        "one fixed batch, in turns, on the smallest net and on ResNet-18 at 32 pixels; where a step's time goes; and "
        "on CUDA each switch by itself. The loop's weights are checked against the same steps in plain PyTorch first.",
        "15, quick 5",
    )


def loop(options: Any, device: Any) -> BenchReport:
    from paribus.bench.loop.recipes import METHODOLOGY, measure

    results, tables = measure(device, options.quick, options.repeats or (5 if options.quick else 15), log_progress)
    return BenchReport("The training loop beside the bare step", results, tables=tables, methodology=METHODOLOGY)


def data_parser() -> argparse.ArgumentParser:
    made = parser(
        "data",
        "Images a second of the training input, beside torchvision's transforms in torch's DataLoader and timm's "
        "create_loader, each checked to deliver the images it should. Samples last a second.",
        "7, quick 3",
    )
    made.add_argument("--root", type=Path, metavar="DIR", help="a tree with train/CLASS/*.JPEG for the folder case")
    made.add_argument("--only", metavar="WORD", help="only cases with this word in the title")
    return made


def data(options: Any, device: Any) -> BenchReport:
    from paribus.bench.data.cases import cases, find_image_tree
    from paribus.bench.harness.implementation import Scope
    from paribus.bench.harness.measure import measure

    if options.root is not None and not (options.root / "train").is_dir():
        raise ConfigError(f"bench data: --root: {options.root} has no folder train; give the tree that holds it")
    rounds, min_seconds = (3, 0.2) if options.quick else (7, 1.0)
    results: list[Result] = []
    for title, make in cases(Scope(device, options.quick), options.root):
        if (options.only or "").lower() in title.lower():
            log_progress(title)
            results.append(measure(make(), device, options.repeats or rounds, min_seconds))
    if not results:
        raise ConfigError(f"bench data: --only: found {options.only!r}, which is in no title")
    left_out = (
        [] if find_image_tree(options.root) else ["No JPEG files here: give a tree with --root, or PARIBUS_DATA."]
    )
    return BenchReport("Training input, images a second", results, left_out)


def start_parser() -> argparse.ArgumentParser:
    return parser(
        "start",
        "Seconds of whole processes, started afresh: an import, --help, a one-step training; and the phases of a start "
        "up to the first step.",
        "7, quick 3",
    )


def start(options: Any, device: Any) -> BenchReport:
    from paribus.bench.start.first_step import measure

    return measure(device, options.quick, options.repeats or (3 if options.quick else 7), log_progress)


BENCHES: dict[str, tuple[Callable[[], argparse.ArgumentParser], Callable[[Any, Any], BenchReport]]] = {
    "techniques": (techniques_parser, techniques),
    "loop": (loop_parser, loop),
    "data": (data_parser, data),
    "start": (start_parser, start),
}
