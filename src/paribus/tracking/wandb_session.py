"""One run of W&B, from the first event of the record to the last. Only the follower imports this."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb

from paribus.core import runfolder
from paribus.core.events import parse_event
from paribus.core.runfolder import find_pictures
from paribus.tracking.wandb import GRACE, INPUTS
from paribus.tracking.wandb_state import Follower

PAUSE = 1.0  # seconds between two reads of the record
CONNECT = 30.0  # seconds for the service to answer at the start
EXIT_CODES = {"DONE": 0, "FAILED": 1, "PREEMPTED": 75, None: 255}
STATE_NAMES = {"DONE": "finished", "FAILED": "failed", "PREEMPTED": "preempted", None: "killed"}


def send_run(follower: Follower, online: bool) -> None:
    """Send W&B the whole record, waiting for more until training has ended.

    Of a run that the service knows already, only what comes after its last step is sent: values of a step that was
    trained again are the same. Raises what W&B raises when it is not logged in, not reached, or not done in time.
    """
    follower.keep_only(follower.complete_record)
    _wait_for_next_second(follower)
    settings = _build_settings(follower, online)
    live = wandb.init(**_init_arguments(follower), id=follower.id, resume="allow", settings=settings)
    follower.write_status(state="online" if online else "offline", **({"url": live.url, "why": None} if online else {}))
    live.define_metric("step")
    live.define_metric("*", step_metric="step")
    known = live.starting_step  # the first step that the service does not have
    picture = follower.run / INPUTS
    if known == 0 and picture.exists():
        live.log({"inputs": wandb.Image(str(picture)), "step": 0}, step=0, commit=True)
    for event in _iterate_events(follower):
        if event["step"] >= known:
            # written before the line of the record
            pictures = {
                name: wandb.Image(str(path)) for name, path in find_pictures(follower.run, event["step"]).items()
            }
            live.log({**event["values"], **pictures, "step": event["step"]}, step=event["step"], commit=True)
    state = runfolder.read_state(follower.run)
    summary = runfolder.read_json(follower.run / runfolder.SUMMARY) if state else {}
    live.summary.update({**summary.get("metrics", {}), "state": STATE_NAMES[state]})
    if state == "PREEMPTED":
        live.mark_preempting()
    live.finish(exit_code=EXIT_CODES[state])
    follower.mark_complete(Path(live.settings.sync_dir))
    follower.write_status(record=live.settings.sync_dir)


def _iterate_events(follower: Follower) -> Iterator[dict[str, Any]]:
    """The events of the record as they come, until training has ended. Waits for the rest of an incomplete line."""
    torn = b""
    path = follower.run / runfolder.EVENTS
    with open(path, "rb") if path.exists() else open(os.devnull, "rb") as file:
        while True:
            last = follower.ended.is_set()
            *lines, torn = (torn + file.read()).split(b"\n")
            yield from (event for line in lines if (event := parse_event(line)) is not None)
            if last:
                return
            follower.ended.wait(PAUSE)


def _init_arguments(follower: Follower) -> dict[str, Any]:
    """What W&B gets of a run beside its values. None where W&B should read its own variable."""
    config, options = follower.config, follower.options
    techniques = list(config.get("techniques") or [])
    arm = "+".join(techniques) or "baseline"
    more = [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]

    def unless(variable: str, given: str | None, otherwise: str | None = None) -> str | None:
        return given if given is not None else None if os.environ.get(variable) else otherwise

    return {
        "project": unless("WANDB_PROJECT", None if options.project == "paribus" else options.project, "paribus"),
        "entity": unless("WANDB_ENTITY", options.entity),
        "group": unless("WANDB_RUN_GROUP", options.group, config["name"]),
        "job_type": unless("WANDB_JOB_TYPE", options.job_type, arm),
        "name": unless("WANDB_NAME", None, f"{config['name']}-{arm}-s{config['seed']}"),
        "notes": unless("WANDB_NOTES", options.notes),
        "tags": list(dict.fromkeys([*techniques, *options.tags, *more])),
        "config": {
            **config,
            "recipe": follower.run.name.rpartition("-")[2],  # the hash of what is computed
            "provenance": runfolder.read_json(follower.run / runfolder.PROVENANCE).get("segments", []),
        },
    }


def _build_settings(follower: Follower, online: bool) -> wandb.Settings:
    """Quiet, bounded in time, with the run's own commit and command, and measuring the training process."""
    segments = runfolder.read_json(follower.run / runfolder.PROVENANCE).get("segments", [])
    newest: dict[str, Any] = segments[-1] if segments else {}
    over = follower.ended.is_set()  # then this machine's load says nothing about the run
    wanted: dict[str, Any] = {
        "mode": "online" if online else "offline",
        "root_dir": str(follower.home),
        "silent": True,
        "console": "off",
        "symlink": False,
        "disable_git": True,  # the checkout W&B would look at is that of the current folder
        "git_commit": newest.get("commit"),
        "program": " ".join(newest.get("command", [])) or None,
        "init_timeout": min(CONNECT, follower.timeout_s) if online else GRACE,
        "x_service_wait": GRACE,  # for W&B's own process, which is as low in priority as this one
        "finish_timeout": follower.timeout_s,
        "finish_timeout_raises": True,
        "x_disable_stats": over,
        "x_stats_pid": follower.trainer_pid,
    }
    # some of these came with later releases than the oldest that we take
    return wandb.Settings(**{key: value for key, value in wanted.items() if key in wandb.Settings.model_fields})


def _wait_for_next_second(follower: Follower) -> None:
    """W&B names its folder by the second, and would write into one that exists."""
    while list((follower.home / "wandb").glob(f"*run-{time.strftime('%Y%m%d_%H%M%S')}-{follower.id}")):
        time.sleep(0.1)
