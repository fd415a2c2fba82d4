"""Progress of a run: the only clock that schedules, streams and transforms may read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Step `step` of `total` (counted from 0), in the run that has this seed."""

    step: int
    total: int
    seed: int
    steps_per_epoch: int = 1

    @property
    def epoch(self) -> int:
        return self.step // self.steps_per_epoch
