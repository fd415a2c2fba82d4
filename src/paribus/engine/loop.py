"""The training loop. It knows one verb, `train_step`; everything else happens once in a while, on lines of its own."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from paribus.core.errors import ConfigError, RunFailed
from paribus.core.progress import Progress
from paribus.core.protocols import Loader, Method, Tracker
from paribus.engine import checkpoint
from paribus.engine.checkpoint import Checkpoint
from paribus.engine.distributed import World
from paribus.engine.receipt import Receipt
from paribus.engine.runtime import seed_modules
from paribus.engine.stop import StopRequest
from paribus.engine.window import Window


@dataclass(frozen=True)
class Every:
    """Steps between two of each; the last step has all of them."""

    log: int
    evaluate: int
    checkpoint: int


@dataclass(frozen=True)
class Run:
    """What the loop needs to know of a run: its folder, its recipe's id, its length and seed, and where it trains."""

    folder: Path
    recipe: str
    total: int
    seed: int
    every: Every
    keep: int
    world: World
    device: torch.device


def train(
    run: Run,
    method: Method,
    loader: Loader,
    evaluate: Callable[[], dict[str, float]],
    tracker: Tracker,
    stop: StopRequest,
    resumed: Checkpoint | None,
) -> Literal["DONE", "PREEMPTED"]:
    """Train to the last step, or until a stop is asked for, from wherever `resumed` stands. Raises RunFailed."""
    window = Window(run.world, run.device)
    receipt = Receipt(run.folder, run.world, resumed.loop.get("receipt") if resumed else None)
    if resumed is not None:
        restore(resumed, method, window)

    for step in range(resumed.step if resumed else 0, run.total):
        at = Progress(step, run.total, run.seed, loader.steps_per_epoch)
        seed_modules(at, run.world, run.device)
        batch = loader.batch(step)
        metrics = method.train_step(batch, at)
        window.add(metrics, samples=batch.size)
        receipt.add(metrics)

        done, values = step + 1, dict[str, float]()
        last = done == run.total
        if last or done % run.every.log == 0:
            values |= window.flush(done)  # here alone the host waits for the device
            receipt.logged(done, method)
        if last or done % run.every.evaluate == 0:
            window.check(done)
            values |= finite(evaluate(), done) | window.evaluated()
        if values:
            tracker.log(done, values)
            window.recorded()
        stopping = stop.agreed(run.world, run.device, now=bool(values)) and not last
        due = last or done % run.every.checkpoint == 0
        if due or stopping:
            window.check(done)
            save(run, done, method, window, receipt, due)
        if stopping:
            return "PREEMPTED"
    return "DONE"


def restore(resumed: Checkpoint, method: Method, window: Window) -> None:
    """Stand where the checkpoint stands. Raises ConfigError if it is of another network."""
    try:
        method.load_state_dict(resumed.method)
        window.load_state_dict(resumed.loop)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = " ".join(str(error).split())
        raise ConfigError(f"the checkpoint at step {resumed.step} does not fit this network: {what[:200]}") from error


def finite(metrics: dict[str, float], done: int) -> dict[str, float]:
    """The metrics of an evaluation. Raises RunFailed if one is NaN or infinite: the last update went wrong."""
    if not all(math.isfinite(value) for value in metrics.values()):
        raise RunFailed(f"the evaluation after step {done} is not finite: {metrics}")
    return metrics


def save(run: Run, done: int, method: Method, window: Window, receipt: Receipt, due: bool) -> None:
    """A checkpoint after `done` steps, written by rank 0; if it is not due, a signal asked for it."""
    method.settle()
    trained = method.state_dict()
    if due:
        receipt.saving(done, trained)
    state = Checkpoint(done, run.recipe, trained, {**window.state_dict(), "receipt": receipt.state_dict()})
    if run.world.is_main:
        checkpoint.save(run.folder, state, run.keep)
    window.paused()
