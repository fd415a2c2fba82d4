"""`paribus bench`: speed against the other implementations installed: techniques, the loop, data, the start."""

import argparse
import json
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from paribus.bench.harness.page import BenchReport, log_progress
from paribus.cli.arguments.bench import TECHNIQUES
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import FAILED, OK
from paribus.recipe.configs import list_options
from paribus.recipe.overlays import BASELINE

if TYPE_CHECKING:
    from paribus.bench.harness.measure import Result

PACKAGES = ("paribus", "torch", "torchvision", "timm", "adamp", "numpy")


def run(args: argparse.Namespace) -> int:
    name = args.typed[1]
    for path in (args.out, args.json):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"bench {name}: {path.parent} is not a folder; create it first, or choose another file")
    return _report(args, BENCHES[name])


def _report(args: argparse.Namespace, measure: Callable[[Any, Any], BenchReport]) -> int:
    """Measure, print or write the table, and report whether every result was right."""
    from paribus.bench.harness.table import format_page, results_to_dict
    from paribus.core.build import instantiate
    from paribus.engine.distributed import World
    from paribus.engine.runtime import Runtime, apply_runtime

    runtime = instantiate(Runtime, {"device": args.device, "threads": args.threads or "auto"}, "bench")
    device = apply_runtime(runtime, World())
    found = measure(args, device)
    data = results_to_dict(found.results, describe_machine(args.typed, device))
    data |= {"remarks": list(found.remarks), "tables": list(found.tables), "how": found.methodology}
    page = format_page(data, found.title)
    if args.json is not None:
        args.json.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    if args.out is not None:
        args.out.write_text(page)
    else:
        print(page, end="")
    return OK if all(result.is_correct for result in found.results) else FAILED


def describe_machine(typed: Sequence[str], device: Any) -> dict[str, Any]:
    """Date, command, hardware and versions."""
    import torch

    from paribus.core.cores import count_cores
    from paribus.engine.provenance import cpu_name, hash_code, package_version

    cuda = device.type == "cuda"
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": shlex.join(["paribus", *typed]),
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


def techniques(args: argparse.Namespace, device: Any) -> BenchReport:
    known = list(dict.fromkeys([*TECHNIQUES, *list_options("technique", args.config_dir)]))
    known.remove(BASELINE)
    if unknown := [name for name in args.names if name not in known]:
        more = "" if args.config_dir else " (--config-dir DIR adds your own)"
        raise ConfigError(f"bench techniques: no bench of {', '.join(unknown)}; there are {', '.join(known)}{more}")
    from paribus.bench.harness.implementation import Scope
    from paribus.bench.techniques.cases import FULL, QUICK, Effort, run

    usual = QUICK if args.quick else FULL
    effort = Effort(args.repeats or usual.rounds, usual.min_seconds)
    results = run(args.names or TECHNIQUES, Scope(device, args.quick), effort, log_progress, args.config_dir)
    return BenchReport("The techniques beside their public implementations", results)


def loop(args: argparse.Namespace, device: Any) -> BenchReport:
    from paribus.bench.loop.recipes import METHODOLOGY, measure

    results, tables = measure(device, args.quick, args.repeats or (5 if args.quick else 15), log_progress)
    return BenchReport("The training loop beside the bare step", results, tables=tables, methodology=METHODOLOGY)


def data(args: argparse.Namespace, device: Any) -> BenchReport:
    from paribus.bench.data.cases import cases, find_image_tree
    from paribus.bench.harness.implementation import Scope
    from paribus.bench.harness.measure import measure

    if args.root is not None and not (args.root / "train").is_dir():
        raise ConfigError(f"bench data: --root: {args.root} has no folder train; give the tree that holds it")
    rounds, min_seconds = (3, 0.2) if args.quick else (7, 1.0)
    results: list[Result] = []
    for title, make in cases(Scope(device, args.quick), args.root):
        if (args.only or "").lower() in title.lower():
            log_progress(title)
            results.append(measure(make(), device, args.repeats or rounds, min_seconds))
    if not results:
        raise ConfigError(f"bench data: --only: found {args.only!r}, which is in no title")
    left_out = [] if find_image_tree(args.root) else ["No JPEG files here: give a tree with --root, or PARIBUS_DATA."]
    return BenchReport("Training input, images a second", results, left_out)


def start(args: argparse.Namespace, device: Any) -> BenchReport:
    from paribus.bench.start.first_step import measure

    return measure(device, args.quick, args.repeats or (3 if args.quick else 7), log_progress)


BENCHES: dict[str, Callable[[argparse.Namespace, Any], BenchReport]] = {
    "techniques": techniques,
    "loop": loop,
    "data": data,
    "start": start,
}
