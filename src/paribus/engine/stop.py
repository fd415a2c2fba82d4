"""Stopping at a step boundary on request: SIGTERM and SIGUSR1 from a scheduler, Ctrl-C from a person, SIGHUP from
a terminal that closes."""

import os
import signal
import sys
from types import FrameType

import torch

from paribus.core.exit_codes import INTERRUPTED
from paribus.engine.distributed import World, all_sum


class StopRequest:
    """A flag that signals set, one for all jobs of a process. The first one requests a checkpoint and a stop; a
    second Ctrl-C exits at once."""

    def __init__(self) -> None:
        self._is_requested = False

    @property
    def is_requested(self) -> bool:
        return self._is_requested

    def install_handlers(self) -> None:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # under nohup it is ignored
                signal.signal(number, self._on_signal)

    def should_stop(self, world: World, device: torch.device, now: bool) -> bool:
        """Whether to stop after this step. Ranks agree on it where they wait for each other anyway (`now`)."""
        if world.size == 1:
            return self._is_requested
        if not now:
            return False
        return bool(all_sum(torch.tensor(int(self._is_requested), device=device)).item())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_requested and number == signal.SIGINT:
            sys.stderr.write("paribus: exiting at once; the last checkpoint is kept\n")
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        self._is_requested = True
        sys.stderr.write(f"paribus: {signal.Signals(number).name}; stopping after this step with a checkpoint\n")
