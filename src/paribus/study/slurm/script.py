"""Batch scripts for Slurm: a template with {{ data }} in it, filled in. The package's own are beside this file."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.study.plan import Cell
from paribus.study.slurm.templates import find_template, list_templates
from paribus.study.spec import Study

_PLACEHOLDERS = {"name", "array", "output", "cpus", "tasks", "nodes", "options", "cells", "cell"}
_REQUIRED = ("array", "cells", "cell")


@dataclass(frozen=True)
class JobOptions:
    """The command line's options for a job. template: a name or a file. options: others of sbatch, without dashes,
    as ("partition", "gpu"). at_once: cells that may run at a time, 0 for all. repeat: the runs are
    those of a repeat."""

    template: str = "one_gpu"
    options: Sequence[tuple[str, str]] = ()
    gpus: int = 1
    nodes: int = 2
    tasks: int = 0
    cpus: int = 1
    at_once: int = 0
    repeat: bool = False


def build_script(job_options: JobOptions, study: Study, runs: Path, cells: Sequence[Cell]) -> str:
    """The batch script of an array whose task i is cells[i]. Raises ConfigError for a template that does not fit."""
    text = _read_template(job_options.template)
    used = set(re.findall(r"\{\{ *(\w+) *\}\}", _strip_comments(text)))
    if unknown := sorted(used - _PLACEHOLDERS):
        raise ConfigError(
            f"--template {job_options.template}: has {{{{ {unknown[0]} }}}}; there are "
            f"{', '.join(sorted(_PLACEHOLDERS))}"
        )
    if missing := [name for name in _REQUIRED if name not in used]:
        raise ConfigError(
            f"--template {job_options.template}: has no {{{{ {missing[0]} }}}}; the package's templates have it"
        )
    values = _template_values(job_options, study, runs, cells)
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda found: values.get(found[1], found[0]), text)


def _template_values(job_options: JobOptions, study: Study, runs: Path, cells: Sequence[Cell]) -> Mapping[str, str]:
    limit = f"%{job_options.at_once}" if job_options.at_once else ""
    options = [*job_options.options, *([("gpus-per-node", str(job_options.gpus))] if job_options.gpus else [])]
    command = [*(sys.executable, "-P", "-m", "paribus.cli", "study", "cell", str(study.folder.absolute()))]
    command += ["--runs", str(runs.absolute()), *(["--repeat"] if job_options.repeat else [])]
    command += ["--stage", study.stage] if study.stage else []
    return {
        "name": f"paribus-{study.name}",
        "array": f"0-{len(cells) - 1}{limit}",
        "output": shlex.quote(f"{runs.absolute()}/slurm/%A_%a.out"),
        "cpus": str(job_options.cpus),
        "tasks": str(job_options.tasks or max(1, job_options.gpus)),
        "nodes": str(job_options.nodes),
        "options": "\n".join(
            f"#SBATCH --{key}" + (f"={shlex.quote(value)}" if value else "") for key, value in options
        ),
        "cells": " ".join(cell.name for cell in cells),
        "cell": f'{shlex.join(command)} --cell "${{cells[SLURM_ARRAY_TASK_ID]}}"',
    }


def _read_template(name: str) -> str:
    try:
        return find_template(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--template {name}: {error}; give a file, or one of {', '.join(list_templates())}"
        ) from error


def _strip_comments(text: str) -> str:
    """Without comment lines; Slurm reads those with #SBATCH."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#") or line.startswith("#SBATCH"))
