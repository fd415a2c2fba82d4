"""Stopping at a step boundary on request: SIGTERM and SIGUSR1 from a scheduler, Ctrl-C from a person, SIGHUP from
a terminal that closes."""

import os
import signal
import sys
import threading
from types import FrameType

import torch

from paribus.core.exit_codes import INTERRUPTED
from paribus.engine.distributed import World, all_sum

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """A flag that signals set, one for all jobs of a process. The first one requests a checkpoint and a stop; a
    second Ctrl-C exits at once, or raises KeyboardInterrupt where the process is not ours to end. received: the first
    signal."""

    def __init__(self, may_exit: bool = True) -> None:
        self._is_requested, self._may_exit = False, may_exit
        self.received: int | None = None

    @property
    def is_requested(self) -> bool:
        return self._is_requested

    def install_handlers(self) -> None:
        if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
            return
        for number in SIGNALS:
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
            if not self._may_exit:
                raise KeyboardInterrupt
            sys.stderr.write("paribus: exiting at once; the last checkpoint is kept\n")
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        self._is_requested, self.received = True, self.received or number
        sys.stderr.write(f"paribus: {signal.Signals(number).name}; stopping after this step with a checkpoint\n")
