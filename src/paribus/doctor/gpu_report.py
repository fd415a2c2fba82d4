"""What `paribus doctor gpu` found, as plain data for experiments/bench/ and as a Markdown page."""

import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from paribus.bench.harness.table import format_table
from paribus.core.cores import count_cores
from paribus.core.formatting import format_bytes, format_seconds
from paribus.doctor.gpu_check import CheckResult
from paribus.doctor.gpu_times import VARIANTS, recommend
from paribus.doctor.machine import check_compiler, find_version, list_gpus
from paribus.engine.provenance import cpu_name, device_model, hash_code, package_version

FORMAT = 1  # of the JSON; rises when a key changes its meaning or goes


def collect(results: Sequence[CheckResult], device: torch.device, typed: Sequence[str]) -> dict[str, Any]:
    """Everything, as plain data."""
    return {
        "format": FORMAT,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": shlex.join(["paribus", *typed]),
        "hardware": describe_hardware(device),
        "software": describe_software(device),
        "passed": not any(result.state == "failed" for result in results),
        "checks": [
            {
                "part": result.part,
                "name": result.name,
                "state": result.state,
                "found": result.found,
                "seconds": round(result.seconds, 2),
                "numbers": dict(result.numbers),
            }
            for result in results
        ],
        "verdict": [{"for": title, "overrides": words} for title, words in judge(results)],
    }


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """name: of the device."""
    known: dict[str, Any] = {"name": device_model(device) if device.type == "cuda" else cpu_name()}
    known |= {"cpu": cpu_name(), "cores": count_cores()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        gpus = list_gpus()
        known |= {
            "devices": torch.cuda.device_count(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": total,
            "free_bytes": free,
            "driver": gpus[0].driver if gpus else None,
            "mig": any(gpu.mig == "Enabled" for gpu in gpus),
        }
    return known


def describe_software(device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    from torch.cuda import nccl as library

    nccl = library.version() if cuda and torch.distributed.is_nccl_available() else None
    return {
        "paribus": package_version("paribus"),
        "code": hash_code(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "nccl": ".".join(map(str, nccl)) if nccl else None,
        "triton": find_version("triton"),
        "compiler": check_compiler().found,
    }


def judge(results: Sequence[CheckResult]) -> list[tuple[str, str]]:
    """What to set on this machine, from the times."""
    rates: dict[str, dict[str, float]] = {}
    decode = None
    for result in results:
        title, _, variant = result.name.rpartition(": ")
        if "images_per_second" in result.numbers and variant in VARIANTS:
            rates.setdefault(title, {})[variant] = result.numbers["images_per_second"]
        elif result.name == "decoding" and result.numbers:
            decode = result.numbers["images_per_second"]
    return recommend(rates, decode, count_cores())


def default_file(hardware: Mapping[str, Any]) -> str:
    """doctor-nvidia-h100-80gb-hbm3.json"""
    words = re.sub(r"[^a-z0-9]+", "-", hardware["name"].lower()).strip("-")
    return f"doctor-{words}.json"


def format_report(data: Mapping[str, Any]) -> str:
    """The page for the data of `collect`: what failed comes first."""
    checks, hardware, software = data["checks"], data["hardware"], data["software"]
    counts = {state: sum(c["state"] == state for c in checks) for state in ("ok", "failed", "skipped", "not run")}
    told = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    facts = {key: format_bytes(value) if key.endswith("_bytes") else value for key, value in hardware.items()}
    parts = [
        f"# {hardware['name']}: {'passed' if data['passed'] else 'failed'}",
        f"* {data['date']}: `{data['command']}`; {told}\n"
        f"* {', '.join(f'{key} {value}' for key, value in facts.items() if value is not None)}\n"
        f"* {', '.join(f'{key} {value}' for key, value in software.items() if value is not None)}",
    ]
    if failed := [c for c in checks if c["state"] == "failed"]:
        parts.append("## Failed\n\n" + "\n".join(f"* {c['part']}, {c['name']}: {c['found']}" for c in failed))
    if data["verdict"]:
        lines = [[line["for"], f"`{line['overrides']}`" if line["overrides"] else "–"] for line in data["verdict"]]
        parts.append("## Recommended\n\n" + format_table(["net and setting", "overrides"], lines))
    rows = [[c["part"], c["name"], c["state"], format_seconds(c["seconds"]), c["found"]] for c in checks]
    parts.append("## Checks\n\n" + format_table(["part", "check", "state", "took", "found"], rows))
    return "\n\n".join(parts) + "\n"
