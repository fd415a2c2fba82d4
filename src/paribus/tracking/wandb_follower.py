"""`python -m paribus.tracking.wandb_follower RUN`: follow the record of a run and send it to W&B.

Runs beside the training, as a process of its own. The rules:

* One follower a run, held by the kernel's lock on RUN/wandb/lock. One that finds another still busy with a training
  that has ended kills it, since it will send everything again.
* The end of training is a byte on standard input, or that it closes, or that the parent process is gone; how it ended
  is in the run folder. So a SIGKILL of the training ends the record too, with state "killed".
* Online is tried at the start, every RETRY seconds, and once more at the end. What W&B has not taken `sync_timeout`
  seconds after the end is left: the local record is written instead. After GRACE more seconds it ends in any case.
* The local record is never added to. Each follower writes a new one from the first event on, and the folders of earlier
  ones go when it is complete; what a killed one left is unreadable and goes at once. So each step is there once.

Imports neither torch nor, before it is alone, wandb.
"""

import argparse
import fcntl
import os
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from paribus.core import runfolder
from paribus.core.errors import explain_exception
from paribus.tracking.wandb import BUSY, GRACE
from paribus.tracking.wandb_state import Follower

OK, FAILED = 0, 1
RETRY = 600.0  # seconds between two tries to reach the service
NICE = 10  # a tenth of a core's share: at 19 a machine full of trainings kept it from ever ending
LOCK = "lock"


def acquire_lock(folder: Path, once: bool) -> IO[str] | None:
    """Hold the lock, for as long as this process lives. None if a follower that is needed has it.

    once: do not kill another one but wait for it, unless it follows a training that is running.
    """
    file = open(folder / LOCK, "a+")  # noqa: SIM115 — the lock lives as long as the file is open
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(f"{socket.gethostname()} {os.getpid()}")
            file.flush()
            return file
        if once and runfolder.read_state(folder.parent) is None:
            return None
        if not once:
            file.seek(0)
            host, _, process = file.read().partition(" ")
            with suppress(ProcessLookupError, PermissionError):
                if host == socket.gethostname() and process.isdecimal():
                    os.kill(int(process), signal.SIGKILL)
        time.sleep(0.1)
    return None


def watch_training(follower: Follower) -> None:
    """Wait for the end of training, then give W&B its time limit and no more."""
    while os.getppid() == follower.trainer_pid and not select.select([0], [], [], 1.0)[0]:
        pass
    follower.ended.set()
    time.sleep(follower.timeout_s + GRACE)
    follower.write_status(
        state="failed", why=f"W&B did not finish within {follower.timeout_s + GRACE:.0f} s after the run"
    )
    os._exit(FAILED)


def mirror_run(follower: Follower, mode: str) -> None:
    """Send W&B everything, online if possible, else to a local record. Raises what W&B raises on the latter."""
    import wandb
    from wandb.errors import AuthenticationError, UsageError

    from paribus.tracking.wandb_session import send_run

    while mode != "offline":
        follower.write_status(state="connecting")
        last = follower.ended.is_set()
        try:
            return send_run(follower, online=True)
        except (UsageError, AuthenticationError) as error:  # no key, or none that could be one
            if mode == "online" or isinstance(error, AuthenticationError):
                follower.write_status(why=f"not logged in ({explain_exception(error)}), so the record is local")
            break
        except Exception as error:
            follower.write_status(
                why=f"the service cannot be reached ({explain_exception(error)}), so the record is local"
            )
            with suppress(Exception):  # W&B's own process holds the run's id until it ends
                wandb.teardown()
        if last or follower.ended.wait(RETRY):
            break
    send_run(follower, online=False)


def _lower_priority() -> None:
    """Give way to trainings, and ignore the signals that a terminal or a scheduler sends to this one."""
    os.nice(NICE)
    with suppress(OSError):  # a session of its own is a scheduling group of its own, whose weight counts first
        Path("/proc/self/autogroup").write_text(str(NICE))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--once", action="store_true", help="send what is recorded, for a run that nobody trains")
    parser.add_argument("--mode", choices=("auto", "online", "offline"))
    parser.add_argument("--patience", type=float, help="seconds for W&B, instead of the run's own sync_timeout")
    args = parser.parse_args()
    if not args.once:
        _lower_priority()
    follower = Follower(args.run, args.patience)
    threading.Thread(target=watch_training, args=(follower,), daemon=True).start()
    held = acquire_lock(follower.mirror, args.once)
    if held is None:
        return BUSY
    follower.write_status(state="starting")
    try:
        mirror_run(follower, args.mode or follower.options.effective_mode)
    except ImportError as error:
        follower.write_status(state="failed", why=f"wandb cannot be imported ({error}); pip install wandb")
        return FAILED
    except Exception as error:
        follower.write_status(state="failed", why=f"no record could be written ({explain_exception(error)})")
        raise
    return OK


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # W&B's threads and exit handlers may wait for a service that does not answer
