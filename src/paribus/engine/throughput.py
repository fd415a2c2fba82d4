"""Noticing that a run has become much slower than it was, and saying so once. No record depends on it."""

import statistics
from collections import deque

EARLIER = 5  # windows, before one can be compared with their median
COLLAPSE = 0.25  # of the median
SHORTEST_S = 2.0  # a window that took less may be one hiccup of the machine


class ThroughputWatch:
    """Samples a second in the windows between log lines of this process."""

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=100)
        self._warned = False

    def add(self, samples: int, seconds: float) -> str:
        """Take in a window. What to tell the user the first time that one collapses; else ""."""
        rate = samples / max(seconds, 1e-9)
        median = statistics.median(self._rates) if len(self._rates) >= EARLIER else 0.0
        self._rates.append(rate)
        if self._warned or seconds < SHORTEST_S or rate >= COLLAPSE * median:
            return ""
        self._warned = True
        return (
            f"training has slowed down to {rate:,.0f} samples/s, from {median:,.0f} before; if other processes use the "
            "same cores, fewer of them, or runtime.threads=1 for each, is quicker for all (resuming with another count "
            "changes last bits)"
        )
