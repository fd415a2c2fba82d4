"""Start-up time: whole fresh processes, and the phases up to the first step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from paribus.bench.harness.implementation import Case, Implementation, PreparedImplementation, version
from paribus.bench.harness.measure import Measurement, Result

BASELINE = "import torch"  # what every training process has to wait for


@dataclass(frozen=True)
class ProcessCommand:
    """Arguments of this Python, and what its standard output must contain."""

    name: str
    package: str
    arguments: tuple[str, ...]
    expected_output: str = ""

    def run(self) -> str:
        """Raises RuntimeError with the last line of its standard error if it fails."""
        done = subprocess.run(
            [sys.executable, *self.arguments], env=build_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        return done.stdout

    def error(self) -> float:
        return 0.0 if self.expected_output in self.run() else float("inf")


def build_environment() -> Mapping[str, str]:
    """This process's environment, with the paribus that runs here and without W&B."""
    source = Path(__file__).parents[3]
    known = os.environ.get("PYTHONPATH")
    path = f"{source}{os.pathsep}{known}" if known else str(source)
    return {**os.environ, "PYTHONPATH": path, "WANDB_MODE": "disabled"}


COMMANDS: tuple[ProcessCommand, ...] = (
    ProcessCommand("python, nothing", "python", ("-c", "")),
    *(
        ProcessCommand(f"import {module}", module, ("-c", f"import {module}"))
        for module in ("torch", "torchvision", "timm", "paribus")
    ),
    ProcessCommand("paribus --help", "paribus", ("-m", "paribus.cli", "--help"), "paribus train"),
    ProcessCommand("paribus list techniques", "paribus", ("-m", "paribus.cli", "list", "techniques"), "cutmix"),
    ProcessCommand("paribus train --help", "paribus", ("-m", "paribus.cli", "train", "--help"), "batch_size"),
)


def make_process_case(chosen: Sequence[ProcessCommand] = COMMANDS) -> Case:
    """Whole processes, from call to exit."""

    def make_implementation(command: ProcessCommand) -> Implementation:
        kind = "ours" if command.package == "paribus" else "public"
        return Implementation(
            command.name, command.package, lambda: PreparedImplementation(command.error, command.run), kind
        )

    return Case(
        "start",
        "Processes from call to exit",
        "Each a fresh process; files are in the page cache.",
        "0 if it ends well and prints what it should",
        0.0,
        tuple(make_implementation(command) for command in chosen),
        BASELINE,
    )


def measure_phases(overrides: Sequence[str], device: torch.device, rounds: int, log: Callable[[str], None]) -> Result:
    """The start of training in fresh processes: rows are the phases in order, and the total."""
    code = f"from paribus.bench.start.first_step import first_step; first_step({list(overrides)!r}, {str(device)!r})"
    command = ProcessCommand("first step", "paribus", ("-c", code))
    found: list[dict[str, float]] = []
    for round_ in range(rounds + 1):  # the first fills the page cache
        log(f"first step, process {round_ + 1} of {rounds + 1}")
        found.append(json.loads(command.run().splitlines()[-1]))
    case = Case(
        "start",
        "From a fresh process to the first step",
        f"`{' '.join(overrides)}`, one phase after the other in a process of its own.",
        "not asked",
        0.0,
        (),
        baseline="in all",
    )
    names = list(found[0])
    rows = [
        Measurement(name, "paribus", "ours", version("paribus"), "measured", None, tuple(f[name] for f in found[1:]))
        for name in names
    ]
    return Result(case, tuple(rows))
