"""`paribus wandb sync`: tell Weights & Biases of runs again, from their records. Needs no torch."""

import subprocess
from pathlib import Path

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.lock import find_holder
from paribus.tracking.wandb import BUSY, read_status, start_follower

PATIENCE = 600  # seconds for a run to be uploaded
USAGE = f"""\
usage: paribus wandb sync RUN|FOLDER [--offline]

Rebuilds what W&B has of a run, or of every run under a folder, from events.jsonl. When logged in (wandb login, or
WANDB_API_KEY) it is uploaded, but for the steps that the service has already; otherwise, or with --offline, a new
local record in RUN/wandb takes the place of the old one. A run that is being trained is left alone. The service has
{PATIENCE} seconds a run. WANDB_PROJECT, WANDB_ENTITY and the other variables of W&B count.

Exit codes: 0 done; 1 a run could not be uploaded; 2 the input is wrong."""


def run(arguments: list[str]) -> int:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    flags = [a for a in arguments if a.startswith("-")]
    paths = [a for a in arguments[1:] if not a.startswith("-")]
    if arguments[0] != "sync" or len(paths) != 1 or set(flags) - {"--offline"}:
        raise ConfigError(f"wandb {' '.join(arguments)}: not understood; {USAGE.splitlines()[0]}")
    return max(_sync(folder, offline=bool(flags)) for folder in runs_under(Path(paths[0])))


def runs_under(path: Path) -> list[Path]:
    """The run at a path, or the runs in a folder or in its folders. Raises ConfigError if there is none."""
    for pattern in ("", "*/", "*/*/"):
        found = sorted(
            config.parent
            for config in path.glob(f"{pattern}{runfolder.CONFIG}")
            if (config.parent / runfolder.EVENTS).is_file()
        )
        if found:
            return found
    raise ConfigError(f"{path}: no run there, nor a folder of runs; paribus list runs names them")


def _sync(folder: Path, offline: bool) -> int:
    """Have a follower tell what is there, and say how that ended. Returns 0, or 1 if W&B lacks something."""
    if (trainer := find_holder(folder)) is not None:
        print(f"{folder}: left alone, it is being trained by {trainer}")
        return 0
    mode = "offline" if offline else "auto"
    process = start_follower(folder, subprocess.DEVNULL, "--once", "--mode", mode, "--patience", str(PATIENCE))
    code = process.wait()
    told = read_status(folder, process.pid)
    if code == BUSY:
        print(f"{folder}: left alone, another process is telling it to W&B")
        return 0
    if code or told.get("why"):
        print(f"{folder}: {told.get('why') or f'W&B ended with {code}; see {folder}/wandb/follower.log'}")
        return 1
    where = f"W&B has it: {told['url']}" if told.get("url") else f"local record {told.get('record')}"
    print(f"{folder}: {where}{'' if offline or told.get('url') else '; wandb login, and again to upload it'}")
    return 0
