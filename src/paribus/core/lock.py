"""One process at a time on a folder: who holds it, and when a lock that was left behind is stale.

The kernel's lock (flock) decides between processes of one machine; it is released however its holder ends, so it is
never stale there. A cluster's file system may not carry flock from one machine to another, so the file `lock` also
names its holder, who touches it every BEAT seconds and empties it on exit. A process that gets the kernel's lock but
reads another machine's name takes the folder over only if

* that holder was an earlier start of the same Slurm job, which Slurm ends before it starts the next, or
* the file has not been touched for STALE seconds, by the clock of the file system it lies on.
"""

import json
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from paribus.core.errors import ConfigError
from paribus.core.renamed import old_names

LOCK = "lock"
BEAT, STALE = 20.0, 180.0  # seconds
TRIES = 5  # `find_holder` takes the kernel's lock for an instant, which is no reason to refuse


@dataclass(frozen=True)
class Holder:
    """Who holds a folder. job and restart are Slurm's, "" outside of it."""

    host: str
    process: int
    job: str = ""
    restart: int = 0

    def __str__(self) -> str:
        job = f", Slurm job {self.job} (restart {self.restart})" if self.job else ""
        return f"process {self.process} on {self.host}{job}"


def current_holder() -> Holder:
    job = os.environ.get("SLURM_JOB_ID", "")
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    return Holder(socket.gethostname(), os.getpid(), job, int(restart) if restart.isdecimal() else 0)


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder; if it is held, wait with `wait`, else raise a ConfigError that names the holder."""
    import fcntl

    with open(folder / LOCK, "a+") as file:
        for tries_left in reversed(range(TRIES)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                break
            except OSError as error:
                if not tries_left:
                    raise _in_use_error(folder, _read_holder(file), "wait for it or stop it") from error
                time.sleep(0.1)
        _wait_until_free(folder, file, wait)
        _write_text(file, json.dumps(asdict(current_holder())) + "\n")
        _close_in_children(file)
        try:
            with _heartbeat(file):
                yield
        finally:
            _write_text(file, "")


def find_holder(folder: Path) -> Holder | None:
    """Who holds a folder now; None if nobody does. Needs no write permission."""
    import fcntl

    try:
        with open(folder / LOCK) as file:
            found = _read_holder(file)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return found or Holder("an unknown host", 0)
            return found if found and _is_alive_elsewhere(found, _lock_age(folder)) else None
    except OSError:  # no such file, or not readable: no holder that we could know of
        return None


def _is_alive_elsewhere(found: Holder, age: float) -> bool:
    """Whether the holder named in a file whose kernel lock is free is a process that still runs."""
    own = current_holder()
    if found.host == own.host:  # the kernel would know
        return False
    if found.job and found.job == own.job and found.restart < own.restart:
        return False
    return age < STALE


def _wait_until_free(folder: Path, file: IO[str], wait: bool) -> None:
    while (found := _read_holder(file)) and _is_alive_elsewhere(found, age := _lock_age(folder)):
        if not wait:
            advice = f"wait for it or stop it; it counts as dead {STALE - age:.0f} s from now unless it renews the lock"
            raise _in_use_error(folder, found, advice)
        time.sleep(1)


def _in_use_error(folder: Path, found: Holder | None, advice: str) -> ConfigError:
    return ConfigError(f"{folder} is in use by {found or 'another process'}; {advice}")


def _lock_age(folder: Path) -> float:
    """Seconds since the lock was touched. Both times are the file system's: machines' own clocks may differ."""
    probe = folder / f"{LOCK}.now-{socket.gethostname()}-{os.getpid()}"
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:  # a reader without write permission, or a full disk
        now = time.time()
    return now - (folder / LOCK).stat().st_mtime


def _read_holder(file: IO[str]) -> Holder | None:
    file.seek(0)
    try:
        found: Any = json.loads(file.read())
        return Holder(str(found["host"]), int(found["process"]), str(found["job"]), int(found["restart"]))
    except (ValueError, KeyError, TypeError):  # empty, or truncated by a crash
        return None


def _write_text(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def _close_in_children(file: IO[str]) -> None:
    """A forked child (a data worker) shares its parent's kernel lock as long as it has the file open. So it closes
    it, or a killed run would seem to be running until its workers notice."""
    reference = weakref.ref(file)  # fork hooks are permanent, files should not be

    def close() -> None:
        held = reference()
        if held is not None:
            held.close()

    os.register_at_fork(after_in_child=close)


@contextmanager
def _heartbeat(file: IO[str]) -> Iterator[None]:
    """Touch the file every BEAT seconds, from a thread, so that processes elsewhere see that its holder is alive."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            try:
                os.utime(file.fileno())
            except OSError:  # e.g. a file system that went away; the run will fail by itself
                return

    thread = threading.Thread(target=beat, name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if not TYPE_CHECKING:
    __getattr__ = old_names(__name__, {"me": "current_holder", "holder": "find_holder"})
