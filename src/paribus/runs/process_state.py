"""What training changes in the process it runs in, put back for whoever goes on in it: a notebook, a test, a script.

The command line has no need of this, as its process ends with the run.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from paribus.engine.stop import SIGNALS


@contextmanager
def keep_process_state(command: Sequence[str]) -> Iterator[None]:
    """Signal handlers, torch's threads, numerics, random generators and CUDA device are afterwards as they were before.
    command: what the run's provenance records as its own, in place of a notebook's."""
    argv, workspace = sys.argv, os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    sys.argv = list(command)
    try:
        with _keep_signal_handlers(), _keep_torch():
            yield
    finally:
        sys.argv = argv
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where none can be set
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # one that C code has set cannot be set from Python
                signal.signal(number, handler)


@contextmanager
def _keep_torch() -> Iterator[None]:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    tf32, benchmark = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    generator = torch.get_rng_state()
    on_cuda = torch.cuda.is_initialized()
    generators, device = (torch.cuda.get_rng_state_all(), torch.cuda.current_device()) if on_cuda else ([], 0)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = tf32, benchmark
        if deterministic != torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.set_rng_state(generator)
        if on_cuda:
            torch.cuda.set_rng_state_all(generators)
            torch.cuda.set_device(device)
