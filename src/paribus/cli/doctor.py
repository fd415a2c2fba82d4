"""`paribus doctor`: what this machine has and lacks, whether it has what a recipe needs, and what its GPU does."""

import argparse
import faulthandler
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paribus.bench.harness.page import log_progress
from paribus.cli.arguments.doctor import MINUTES
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import FAILED, OK
from paribus.doctor.finding import Finding, format_findings

GPU = "gpu"
GRACE = 60.0  # seconds after the budget; then a kernel hangs, and the process ends with FAILED and its traceback
_OF_GPU: dict[str, object] = {"device": "cuda", "quick": False, "minutes": MINUTES, "only": "", "out": None}


def run(args: argparse.Namespace) -> int:
    for path in (args.json, args.out):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"doctor: {path.parent} is not a folder; create it first, or choose another file")
    if args.words == [GPU]:
        return _run_gpu(args)
    if unknown := [word for word in args.words if "=" not in word]:
        raise ConfigError(f"doctor: found {' '.join(unknown)}; give {GPU} alone, or overrides such as experiment=smoke")
    if given := [f"--{name}" for name, usual in _OF_GPU.items() if getattr(args, name) != usual]:
        raise ConfigError(f"doctor: {', '.join(given)}: of paribus doctor {GPU} alone")
    return _report(_check(args.words, args.config_dir), args.json, bool(args.words))


def _check(overrides: Sequence[str], config_dir: Path | None) -> list[Finding]:
    """Of the machine, or of a recipe."""
    if overrides:
        from paribus.doctor.recipe import check_recipe, compose_recipe

        return check_recipe(compose_recipe(overrides, config_dir))
    from paribus.doctor.machine import check_machine

    return check_machine(Path("runs"))


def _report(findings: Sequence[Finding], path: Path | None, counts: bool) -> int:
    """Print, and write as JSON where asked. counts: whether something missing is a failure."""
    print(format_findings(findings))
    if path is not None:
        path.write_text(json.dumps([asdict(f) for f in findings], indent=1, ensure_ascii=False) + "\n")
    return FAILED if counts and any(f.state == "missing" for f in findings) else OK


def _run_gpu(args: argparse.Namespace) -> int:
    """Run the checks, print the table, write the JSON. Raises ConfigError without a device."""
    device = _start_device(args.device)
    from paribus.doctor.gpu import list_checks
    from paribus.doctor.gpu_report import collect, default_file, describe_hardware, format_report
    from paribus.doctor.gpu_run import run_checks

    usual = default_file(describe_hardware(device))
    path = args.json or Path(usual)
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"doctor {GPU}: {path.absolute().parent} cannot be written; choose a file with --json")
    checks = [c for c in list_checks(device, args.quick) if args.only.lower() in f"{c.part} {c.name}".lower()]
    if not checks:
        raise ConfigError(f"doctor {GPU}: --only: found {args.only!r}, which is in no check's part or name")
    if (err := sys.__stderr__) is not None:
        faulthandler.dump_traceback_later(60 * args.minutes + GRACE, exit=True, file=err)
    try:
        results = run_checks(checks, 60 * args.minutes, log_progress)
    finally:
        faulthandler.cancel_dump_traceback_later()
    data = collect(results, device, args.typed)
    page = format_report(data)
    if args.out is not None:
        args.out.write_text(page)
    else:
        print(page, end="")
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    log_progress(f"written: {path}; to keep it, commit it as experiments/bench/{usual}")
    return OK if data["passed"] else FAILED


def _start_device(name: str) -> Any:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; deterministic checks need it
    import torch

    from paribus.core.build import instantiate
    from paribus.engine.distributed import World
    from paribus.engine.runtime import Runtime, apply_runtime

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"doctor {GPU}: torch finds no CUDA device here (paribus doctor: torch and GPU); --device cpu runs the "
            "checks themselves, which then compare the CPU with itself"
        )
    return apply_runtime(instantiate(Runtime, {"device": name, "threads": "auto"}, "doctor"), World())
