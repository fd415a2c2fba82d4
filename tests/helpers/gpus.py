"""Whether a test run sees the GPUs of this machine, and steps in which the host must not wait for one. No torch at the
top: what it would see is decided first."""

import itertools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from _pytest.mark.expression import Expression


def selects_only_gpu_tests(markers: str) -> bool:
    """Whether `pytest -m MARKERS` takes no test that is not marked `cuda`.

    An ordinary test that chooses its device takes CUDA where there is one, whose sums are not the CPU's to the bit.
    """
    if not markers:
        return False
    try:
        chosen = Expression.compile(markers)
    except SyntaxError:  # pytest says so itself
        return False
    others = set(re.findall(r"\w+", markers)) - {"and", "or", "not", "cuda"}
    return not any(
        chosen.evaluate(lambda name, **_: name in marks)  # noqa: B023 — called at once
        for count in range(len(others) + 1)
        for marks in itertools.combinations(others, count)
    )


@contextmanager
def no_waits() -> Iterator[None]:
    """In here, an operation on CUDA for which the host waits is an error."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")  # once set, it is on
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
