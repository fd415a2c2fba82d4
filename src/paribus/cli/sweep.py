"""`paribus train -m`: the jobs that Hydra composed, checked before the first starts, and the table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paribus.cli.run_table import align, format_metric, is_lower_better
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, FAILED, OK, REQUEUE
from paribus.core.long_step import long_step

# what a sweep is judged by, the first that was measured; held-out training images are there to select on
METRICS = ("minival/acc1", "val/acc1", "minival/loss", "val/loss", "train/loss")
_STATES = {FAILED: "failed", BAD_CONFIG: "wrong input", REQUEUE: "stopped"}
_MAX_REASON = 70  # characters of why a job failed; the whole message stands above the table


@dataclass(frozen=True)
class Job:
    """A run that Hydra composed. config: plain data, with its open keys and the folders of configs for the checks; {}
    where it could not be resolved, and error says why. overrides: as on the command line, one value each."""

    config: Mapping[str, Any]
    techniques: tuple[str, ...]
    folders: tuple[Path, ...]
    open_keys: tuple[str, ...]
    overrides: tuple[str, ...]
    error: str = ""


@dataclass(frozen=True)
class JobResult:
    """How a job ended. message: the complaint where it failed. metrics: of the summary; {} where there is none."""

    overrides: tuple[str, ...]
    code: int
    message: str
    metrics: Mapping[str, float]


def find_folders(jobs: Sequence[Job]) -> list[Path | None]:
    """The run folder of each job, None where its config is refused, which the job itself will say. Imports torch."""
    from paribus.recipe.overlays import with_keys_set
    from paribus.recipe.recipe import build_recipe, refuse_missing

    checksums: dict[Path, str] = {}  # of files that the jobs name, each read once
    found: list[Path | None] = []
    with long_step("checking", len(jobs), "jobs") as advance:
        for job in jobs:
            folder = None
            with suppress(Exception):  # a user's class may raise anything
                refuse_missing(job.open_keys)
                config = with_keys_set(dict(job.config), list(job.folders))
                folder = build_recipe(config, list(job.techniques), checksums).folder if job.config else None
            found.append(folder)
            advance(1)
    return found


def check_distinct(jobs: Sequence[Job], folders: Sequence[Path | None], arguments: Sequence[str]) -> None:
    """Raise ConfigError if two jobs are one run: their values are written twice, or in two ways (0.01 and 1e-2)."""
    seen: dict[Path, int] = {}
    for i, folder in enumerate(folders):
        if folder is None:
            continue
        if (first := seen.setdefault(folder, i)) != i:
            one, other = (" ".join(find_swept(jobs[k], arguments)) for k in (first, i))
            raise ConfigError(
                f"-m: jobs {first + 1} ({one}) and {i + 1} ({other}) are the same run, {folder}; leave one of them out"
            )


def find_swept(job: Job, arguments: Sequence[str]) -> list[str]:
    """The overrides of which the command line gives several."""
    return [override for override in job.overrides if override not in arguments]


def read_metrics(folder: Path | None) -> dict[str, float]:
    with suppress(ConfigError, OSError):
        found = runfolder.read_json(folder / runfolder.SUMMARY).get("metrics") if folder else None
        return dict(found) if isinstance(found, dict) else {}
    return {}


def format_table(results: Sequence[JobResult]) -> list[str]:
    """A line for each job: the overrides in which they differ, the metric, and which is best or what went wrong."""
    settings = [{k: v for k, _, v in (override.partition("=") for override in r.overrides)} for r in results]
    keys = list(dict.fromkeys(key for found in settings for key in found))
    varied = [key for key in keys if len({found.get(key) for found in settings}) > 1]
    measured = [result.metrics for result in results if result.code == OK]
    metric = next((name for name in METRICS if any(name in found for found in measured)), "")
    values = [found[metric] for found in measured if metric in found]
    best = (min if is_lower_better(metric) else max)(values) if len(values) > 1 else None
    lines = [["job", *varied, *([metric] if metric else []), ""]]
    for i, (result, found) in enumerate(zip(results, settings, strict=True), 1):
        value = result.metrics.get(metric) if result.code == OK else None
        remark = "best" if value is not None and value == best else ""
        if result.code != OK:
            remark = f"{_STATES.get(result.code, 'failed')}: {_cut(result.message)}".rstrip(": ")
        shown = [format_metric(metric, value) if value is not None else ""] if metric else []
        lines.append([str(i), *(found.get(key, "") for key in varied), *shown, remark])
    return align(lines, right=(0, len(varied) + 1) if metric else (0,))


def _cut(message: str) -> str:
    text = message.partition("\n")[0]
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 1] + "…"
