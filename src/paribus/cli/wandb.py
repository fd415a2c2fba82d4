"""`paribus wandb sync`: upload runs to Weights & Biases from their records. Needs no torch."""

import argparse
import subprocess
from pathlib import Path

from paribus.cli.arguments.others import WANDB_PATIENCE
from paribus.cli.several_runs import leave_out_wandb_id
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import FAILED, OK
from paribus.core.lock import find_holder
from paribus.tracking.wandb import BUSY, read_status, start_follower


def run(args: argparse.Namespace) -> int:
    folders = runs_under(args.path)
    if len(folders) > 1:
        leave_out_wandb_id()
    return max(_sync(folder, args.offline) for folder in folders)


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
    raise ConfigError(f"{path}: no run there, nor a folder of runs; paribus list runs lists them")


def _sync(folder: Path, offline: bool) -> int:
    """Have a follower upload what is recorded, and print how that ended. FAILED if W&B lacks something."""
    if (trainer := find_holder(folder)) is not None:
        print(f"{folder}: skipped, it is being trained by {trainer}")
        return OK
    mode = "offline" if offline else "auto"
    process = start_follower(folder, subprocess.DEVNULL, "--once", "--mode", mode, "--patience", str(WANDB_PATIENCE))
    code = process.wait()
    known = read_status(folder, process.pid)
    if code == BUSY:
        print(f"{folder}: skipped, another process is uploading it to W&B")
        return OK
    if code or known.get("why"):
        print(f"{folder}: {known.get('why') or f'W&B ended with {code}; see {folder}/wandb/follower.log'}")
        return FAILED
    where = f"W&B has it: {known['url']}" if known.get("url") else f"local record {known.get('record')}"
    print(f"{folder}: {where}{'' if offline or known.get('url') else '; to upload it, wandb login and run this again'}")
    return OK
