"""Does a training step ever wait for the device? After the first steps, none should: each wait leaves the GPU idle.

torch itself raises at every wait on CUDA. A CPU has nothing to wait for: there the same steps only run. Tests give
another guard, such as fake CUDA's.
"""

import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from paribus.core.errors import ConfigError, explain_exception
from paribus.doctor.gpu_check import Mismatch, NotHere, Passed
from paribus.doctor.gpu_steps import ALONE, compose, prepare, runtime_applied, without_files
from paribus.engine.window import MetricAccumulator
from paribus.recipe.recipe import Recipe

WARM_UP = 3  # steps that may wait: kernels are chosen, counters made, graphs of compilers built
PACKAGE = Path(__file__).parents[1]
Guard = Callable[[], AbstractContextManager[object]]


@contextmanager
def waits_raise() -> Iterator[None]:
    """Raise RuntimeError at every wait of this process for a CUDA device."""
    if not torch.cuda.is_available():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode is a prototype
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def find_wait(recipe: Recipe, device: torch.device, steps: int, guard: Guard = waits_raise) -> str | None:
    """What waited, and where in our code; None if no step did after the first ones. The steps should be of one epoch:
    where another begins, its order is copied to the device, and the host waits for that."""
    with runtime_applied(recipe.runtime, device):
        prepared = prepare(recipe, device, WARM_UP + steps)
        window = MetricAccumulator(ALONE, device)
        for step in range(WARM_UP):
            window.add(prepared.take(step), samples=recipe.batch_size)
        try:
            with guard():
                for step in range(WARM_UP, WARM_UP + steps):
                    window.add(prepared.take(step), samples=recipe.batch_size)
        except RuntimeError as error:
            return f"{explain_exception(error)} ({find_place(error)})"
    return None


def find_place(error: BaseException) -> str:
    """The last line that led to an error and is neither torch's nor this file's."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
    frame = next((f for f in reversed(frames) if f.filename != __file__), None)
    if frame is None:
        return "in torch"
    path = Path(frame.filename)
    shown = path.relative_to(PACKAGE.parent) if path.is_relative_to(PACKAGE) else path.name
    return f"{shown}, line {frame.lineno}"


def check_waits(
    experiment: str, techniques: Sequence[str], device: torch.device, steps: int, batch_size: int, seconds: float
) -> Passed:
    """A recipe on made-up images, with each technique that fits it, one after the other, for some seconds."""
    waited, held, left = list[str](), list[str](), list[str]()
    began = time.monotonic()
    for technique in techniques:
        try:
            recipe = compose(f"experiment={experiment}", f"technique={technique}")
        except ConfigError:  # it does not fit
            continue
        if time.monotonic() - began > seconds:
            left.append(technique)
            continue
        if getattr(recipe.update, "precision", "") == "fp16":
            raise NotHere("fp16 waits once a step by design (methods/update.py)")
        images = (WARM_UP + steps + 2) * batch_size
        wait = find_wait(without_files(recipe, batch_size, images), device, steps)
        (held if wait is None else waited).append(technique if wait is None else f"{technique}: {wait}")
    if waited:
        raise Mismatch("; ".join(waited))
    no_time = f"; no time for {', '.join(left)}" if left else ""
    tried = f"{steps} steps with each of {', '.join(held)}{no_time}"
    if device.type != "cuda":
        raise NotHere(f"a CPU has nothing to wait for; took {tried}")
    return Passed(tried)
