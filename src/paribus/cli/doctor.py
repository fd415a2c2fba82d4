"""`paribus doctor`: what this machine has and lacks, whether it has what a recipe needs, and what its GPU does."""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from paribus.bench.harness.page import log_progress
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import FAILED, OK
from paribus.doctor.finding import Finding, format_findings

GPU = "gpu"


def run(args: argparse.Namespace) -> int:
    for path in (args.json, args.out):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"doctor: {path.parent} is not a folder; create it first, or choose another file")
    if args.words == [GPU]:
        return run_gpu(args)
    if unknown := [word for word in args.words if "=" not in word]:
        raise ConfigError(f"doctor: found {' '.join(unknown)}; give {GPU} alone, or overrides such as experiment=smoke")
    if args.out is not None or args.quick or args.only:
        raise ConfigError(f"doctor: --out, --quick and --only are of paribus doctor {GPU}")
    return report(check(args.words), args.json, bool(args.words))


def check(overrides: Sequence[str]) -> list[Finding]:
    """Of the machine, or of a recipe."""
    if overrides:
        from paribus.doctor.recipe import check_recipe, compose_recipe

        return check_recipe(compose_recipe(overrides))
    from paribus.doctor.machine import check_machine

    return check_machine(Path("runs"))


def report(findings: Sequence[Finding], path: Path | None, counts: bool) -> int:
    """Print, and write as JSON where asked. counts: whether something missing is a failure."""
    print(format_findings(findings))
    if path is not None:
        path.write_text(json.dumps([asdict(f) for f in findings], indent=1, ensure_ascii=False) + "\n")
    return FAILED if counts and any(f.state == "missing" for f in findings) else OK


def run_gpu(args: argparse.Namespace) -> int:
    """Run the checks, print the table, write the JSON. Raises ConfigError without a device."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; deterministic checks need it
    import torch

    from paribus.core.build import instantiate
    from paribus.doctor.gpu import list_checks
    from paribus.doctor.gpu_report import collect, default_file, format_report
    from paribus.doctor.gpu_run import run_checks
    from paribus.engine.distributed import World
    from paribus.engine.runtime import Runtime, apply_runtime

    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"doctor {GPU}: torch finds no CUDA device here (paribus doctor says why); --device cpu runs "
                          "the checks themselves, which then compare the CPU with itself")  # fmt: skip
    device = apply_runtime(instantiate(Runtime, {"device": args.device, "threads": "auto"}, "doctor"), World())
    checks = [c for c in list_checks(device, args.quick) if args.only.lower() in f"{c.part} {c.name}".lower()]
    if not checks:
        raise ConfigError(f"doctor {GPU}: --only: found {args.only!r}, which is in no check's part or name")
    results = run_checks(checks, 60 * args.minutes, log_progress)
    data = collect(results, device, args.typed)
    path = args.json or Path(default_file(data))
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    page = format_report(data)
    if args.out is not None:
        args.out.write_text(page)
    else:
        print(page, end="")
    log_progress(f"written: {path}; commit it as experiments/bench/{default_file(data)}")
    return OK if data["passed"] else FAILED
