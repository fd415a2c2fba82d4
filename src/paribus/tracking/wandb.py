"""Weights & Biases as a mirror of the record that can neither lose data nor hold up training.

Training writes events.jsonl and nothing else. Rank 0 starts one process beside it (wandb_follower.py), which reads that
file and sends it to W&B; here is only what the training process does: start it after 60 s, or at the end, and at the
end signal it and wait a moment. W&B takes about a second of processor time to start, which a run of ten seconds would
feel. It is never imported in this process, and nothing of it is started with mode=disabled or WANDB_MODE=disabled, or
where nobody asked for it (`is_wanted`).
"""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from paribus.core import runfolder
from paribus.core.build import schema

MIRROR = "wandb"  # in a run folder: id, record, lock, status.json, follower.log, and W&B's own folder of the run
ID, STATUS, LOG = "id", "status.json", "follower.log"
FOLLOWER = "paribus.tracking.wandb_follower"
INPUTS = "inputs.png"  # in a run folder, where `images` is set
BUSY = 4  # exit code of a follower that was not needed
GRACE = 240.0  # seconds for work that needs no service, but maybe a busy processor
_MODES = {"", "online", "offline", "disabled", "shared", "dryrun", "run"}
WAIT_SHARE, MAX_WAIT_S = (
    0.005,
    2.0,
)  # of the run's time, and in seconds: how long the end of training waits for the mirror


@schema
class WandB:
    """Online when logged in to W&B, else a local record that `paribus wandb sync RUN` uploads. Off where nobody has
    logged in, given a setting or variable of W&B, or named the tracker on the command line.

    Every W&B variable counts where its field is left at the default (WANDB_PROJECT, WANDB_ENTITY, WANDB_RUN_GROUP,
    WANDB_JOB_TYPE, WANDB_NAME, WANDB_NOTES, WANDB_MODE), WANDB_TAGS are added, and WANDB_MODE=disabled always counts.
    WANDB_RUN_ID names a single run when it starts; several at once (-m, a study) each get their own id.

    mode: auto is online when logged in, else offline. project, entity: where the run appears. notes: on the run.
    group, job_type: the recipe's name and its techniques unless given. tags: beside the names of the techniques.
    images: how many inputs of the first training batch to show, after the transforms, with their targets.
    after: seconds of training before W&B is started; a run that ends sooner is sent when it has ended.
    sync_timeout: seconds that W&B has after the run has ended, before the local record is written instead.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "paribus"
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    images: Annotated[int, Field(ge=0, le=64)] = 0
    after: Annotated[float, Field(ge=0)] = 60.0
    sync_timeout: Annotated[float, Field(ge=1, le=3600)] = 60.0

    @property
    def effective_mode(self) -> str:
        """The mode in effect: auto, online, offline or disabled."""
        variable = {"dryrun": "offline", "run": "online"}.get(setting := os.environ.get("WANDB_MODE", ""), setting)
        if os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes"):
            variable = "disabled"
        if variable == "disabled" or (self.mode == "auto" and variable in ("online", "offline")):
            return variable
        return self.mode

    def __call__(self, folder: Path, start: int, total: int) -> "WandBTracker | NullTracker":
        if self.effective_mode == "disabled" or not is_wanted(self, folder):
            return NullTracker()
        if wrong := _explain_unusable():
            print(f"warning: W&B is left out: {wrong}", file=sys.stderr)
            return NullTracker()
        asked, known = os.environ.get("WANDB_RUN_ID"), folder / MIRROR / ID
        if asked and known.exists() and (kept := known.read_text()) != asked:
            print(f"note: WANDB_RUN_ID={asked} is left out: W&B knows this run as {kept} already", file=sys.stderr)
        return WandBTracker(folder, self.after)


def is_wanted(options: WandB, folder: Path) -> bool:
    """Whether somebody asked for W&B: with its variables, a login, its settings, or the tracker on the command line. It
    is in the default config only so that a login is enough; whoever has none should neither hear of it nor pay for it.
    """
    command = next((segment.get("command") or [] for segment in reversed(runfolder.read_segments(folder))), [])
    return (
        any(name.startswith("WANDB_") for name in os.environ)
        or options != WandB()
        or any(str(word).lstrip("+").startswith(("tracker=", "tracker.wandb")) for word in command)
        or has_login()
    )


def describe_mode(options: WandB, folder: Path) -> str:
    """What W&B will do for this run, in a few words; "" where it was disabled, which needs no telling."""
    mode = options.effective_mode
    if mode == "disabled":
        return ""
    if not is_wanted(options, folder):
        return "off (not logged in; tracker=[console,wandb] records offline)"
    project = os.environ.get("WANDB_PROJECT") if options.project == WandB().project else None
    if mode == "offline" or (mode == "auto" and not has_login()):
        return "a local record; paribus wandb sync uploads it"
    return f"online, project {project or options.project}"


def has_login() -> bool:
    """Whether `wandb login` has left a key, where that keeps it, or WANDB_API_KEY has one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    hosts = {"api.wandb.ai", *_find_own_host()}
    for path in (os.environ.get("NETRC") or "~/.netrc", "~/_netrc"):
        with suppress(OSError):
            words = Path(path).expanduser().read_text(errors="replace").split()
            if hosts.intersection(b for a, b in itertools.pairwise(words) if a == "machine"):
                return True
    return False


def _find_own_host() -> list[str]:
    """The host of a W&B server of one's own, which `wandb login --host` notes in W&B's settings."""
    path = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser() / "settings"
    with suppress(OSError):
        found = re.search(r"^base_url\s*=\s*https?://([^/:\s]+)", path.read_text(errors="replace"), flags=re.MULTILINE)
        return [found[1]] if found else []
    return []


def _explain_unusable() -> str:
    """An error in variables that W&B would report only in the background; "" if there is none."""
    mode, home = os.environ.get("WANDB_MODE", ""), os.environ.get("WANDB_DIR")
    if mode not in _MODES:
        return f"WANDB_MODE is {mode!r}; it should be one of {', '.join(sorted(_MODES - {''}))}"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{0,128}", run_id := os.environ.get("WANDB_RUN_ID", "")):
        return f"WANDB_RUN_ID is {run_id!r}; it should be at most 128 letters, digits and _ . -"
    try:
        if home:
            (Path(home).expanduser() / "wandb").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"WANDB_DIR={home} cannot be written: {error.strerror}"
    return ""


class NullTracker:
    """A tracker that is off."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self, summary: Mapping[str, Any]) -> None: ...


class WandBTracker:
    """The training process's end of the pipe to the follower."""

    def __init__(self, folder: Path, after: float) -> None:
        self._folder, self._after, self._began = folder, after, time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self.log(0, {})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing, once the follower is there: it reads the record."""
        if self._process is None and self._elapsed() >= self._after:
            self._start_follower()

    def close(self, summary: Mapping[str, Any]) -> None:
        """Signal the end and wait for a moment. The follower then continues alone."""
        patience = (
            min(MAX_WAIT_S, WAIT_SHARE * self._elapsed()) if self._process else 0.0
        )  # not for one that is yet to start
        if self._process is None:
            self._start_follower()
        if self._process is None:
            return
        self._signal_end(patience)
        code, report = self._process.returncode, read_status(self._folder, self._process.pid)
        if code is not None and code < 0:
            self._start_follower()
            self._signal_end(0.0)
            self._warn(f"the process that sends to W&B was killed (signal {-code}); another one starts over")
        elif code or report.get("why"):
            self._warn(f"W&B: {report.get('why') or f'its process ended with {code}'}")
        elif code is None and report.get("state") != "offline":
            online = report.get("state") in ("connecting", "online") or "WANDB_API_KEY" in os.environ
            self._warn("the record for W&B is still being written, in the background", "warning" if online else "note")
        elif report.get("url"):
            print(f"W&B: {report['url']}")

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _start_follower(self) -> None:
        try:
            self._process = start_follower(self._folder, stdin=subprocess.PIPE)
        except OSError as error:
            if self._after < float("inf"):
                self._warn(f"W&B is left out: {error}")
            self._after = float("inf")

    def _signal_end(self, patience: float) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(b".")
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            # reaps it if this process lives on, as in a sweep
            threading.Thread(target=self._process.wait, daemon=True).start()

    def _warn(self, what: str, kind: str = "warning") -> None:
        print(f"{kind}: {what}; paribus wandb sync {shlex.quote(str(self._folder))} sends it again", file=sys.stderr)


def start_follower(folder: Path, stdin: int, *options: str) -> subprocess.Popen[bytes]:
    """Start a follower for a run folder, away from this terminal and its signals."""
    mirror = folder / MIRROR
    mirror.mkdir(exist_ok=True)
    with open(mirror / LOG, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", FOLLOWER, str(folder.resolve()), *options],
            stdin=stdin,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def read_status(folder: Path, process: int) -> dict[str, Any]:
    """What this follower last wrote: state (starting, connecting, online, offline, failed), and why, url or record."""
    try:
        content = json.loads((folder / MIRROR / STATUS).read_text())
    except (OSError, ValueError):
        return {}
    return content if content["process"] == process else {}
