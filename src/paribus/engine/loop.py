"""The training loop. It calls one verb, `train_step`; everything else happens at intervals, on lines of its own."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from paribus.core.errors import ConfigError, RunFailed, explain_misfit
from paribus.core.progress import Progress
from paribus.core.protocols import Loader, Method, Tracker
from paribus.engine import checkpoint
from paribus.engine.checkpoint import Checkpoint
from paribus.engine.distributed import World
from paribus.engine.receipt import Receipt
from paribus.engine.runtime import seed_global_generators
from paribus.engine.stop import StopRequest
from paribus.engine.window import MetricAccumulator


@dataclass(frozen=True)
class StepIntervals:
    """Intervals in steps; the last step has all of them."""

    log: int
    evaluate: int
    checkpoint: int


@dataclass(frozen=True)
class RunSettings:
    """What the loop needs to know of a run: its folder, its recipe's id, its length and seed, and where it trains.

    class_ids, class_names: of its data, for its checkpoints."""

    folder: Path
    recipe: str
    total: int
    seed: int
    every: StepIntervals
    keep: int
    world: World
    device: torch.device
    class_ids: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()


def train(
    run: RunSettings,
    method: Method,
    loader: Loader,
    evaluate: Callable[[int, bool], dict[str, float]],
    tracker: Tracker,
    stop: StopRequest,
    resumed: Checkpoint | None,
) -> Literal["DONE", "PREEMPTED"]:
    """Train to the last step, or until a stop is requested, starting from `resumed`. evaluate: told how many
    steps are done, and whether this is the last evaluation. Raises RunFailed."""
    accumulator = MetricAccumulator(run.world, run.device)
    receipt = Receipt(run.folder, run.world, resumed.loop.get("receipt") if resumed else None)
    if resumed is not None:
        restore(resumed, method, accumulator)

    for step in range(resumed.step if resumed else 0, run.total):
        at = Progress(step, run.total, run.seed, loader.steps_per_epoch)
        seed_global_generators(at, run.world, run.device)
        batch = loader.batch(step)
        metrics = method.train_step(batch, at)
        accumulator.add(metrics, samples=batch.size)
        receipt.add(metrics)

        done, values = step + 1, dict[str, float]()
        is_last = done == run.total
        if is_last or done % run.every.log == 0:
            values |= accumulator.flush(done)  # the host waits for the device here, not in a step
            receipt.write_losses(done, method)
        if is_last or done % run.every.evaluate == 0:
            accumulator.check(done)
            values |= check_finite(evaluate(done, is_last), done) | accumulator.end_evaluation()
        if values:
            tracker.log(done, values)
            accumulator.count_recorded_line()
        is_stopping = stop.should_stop(run.world, run.device, now=bool(values)) and not is_last
        is_checkpoint_due = is_last or done % run.every.checkpoint == 0
        if is_checkpoint_due or is_stopping:
            accumulator.check(done)
            save(run, done, method, accumulator, receipt, is_checkpoint_due)
        if is_stopping:
            return "PREEMPTED"
    return "DONE"


def restore(resumed: Checkpoint, method: Method, accumulator: MetricAccumulator | None = None) -> None:
    """Restore the checkpoint's state, without the loop's own where only the network is wanted. Raises ConfigError if it
    is of another network."""
    try:
        method.load_state_dict(resumed.method)
        if accumulator is not None:
            accumulator.load_state_dict(resumed.loop)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ConfigError(
            f"the checkpoint at step {resumed.step} does not fit this network: {explain_misfit(error)}"
        ) from error


def check_finite(metrics: dict[str, float], done: int) -> dict[str, float]:
    """The metrics of an evaluation. Raises RunFailed if one is NaN or infinite: the last update went wrong."""
    if not all(math.isfinite(value) for value in metrics.values()):
        raise RunFailed(f"the evaluation after step {done} is not finite: {metrics}")
    return metrics


def save(
    run: RunSettings, done: int, method: Method, accumulator: MetricAccumulator, receipt: Receipt, is_due: bool
) -> None:
    """A checkpoint after `done` steps, written by rank 0; if it is not due, a signal requested it."""
    method.prepare_eval()
    trained = method.state_dict()
    if is_due:
        receipt.write_checksums(done, trained)
    loop = {**accumulator.state_dict(), "receipt": receipt.state_dict()}
    state = Checkpoint(done, run.recipe, trained, loop, run.class_ids, run.class_names)
    if run.world.is_main:
        checkpoint.save(run.folder, state, run.keep)
    accumulator.restart_clock()
