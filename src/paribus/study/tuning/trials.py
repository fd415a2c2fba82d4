"""The list of settings that are tried: quasi-random, the same for arms with the same space, in any process and study.

A scrambled Halton sequence, as AlgoPerf draws its trials: it covers a space more evenly than random numbers do, in any
number of trials, and its first axes do not change when an arm searches further ones.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from paribus.core.errors import ConfigError
from paribus.study.tuning.space import Space, Value, count_values, format_value, pick

DEFAULT = "default"  # the name of an arm's own settings in the list
_SEED_NAME = "paribus tune"  # what the scrambling is derived from
_MOST_DRAWS = 100_000  # points of the sequence that are looked at before a space counts as exhausted


@dataclass(frozen=True)
class TuningTrial:
    """name: t01 and so on, or default. settings: key -> value; none for the default."""

    name: str
    settings: Mapping[str, Value]

    @property
    def overrides(self) -> tuple[str, ...]:
        return tuple(f"{key}={format_value(value)}" for key, value in self.settings.items())


def list_trials(space: Space, trials: int) -> tuple[TuningTrial, ...]:
    """The default settings, and then so many distinct ones of the space. Raises ConfigError if it has fewer."""
    found: dict[tuple[str, ...], TuningTrial] = {}
    drawn, batch = 0, max(64, 2 * trials)
    sequence = _start_sequence(len(space))
    while len(found) < trials and drawn < _MOST_DRAWS:
        for point in sequence.random(batch):
            settings = {key: pick(axis, float(share)) for (key, axis), share in zip(space.items(), point, strict=True)}
            trial = TuningTrial(f"t{len(found) + 1:02}", settings)
            if len(found) < trials:
                found.setdefault(trial.overrides, trial)
        drawn += batch
    if len(found) < trials:
        limit = math.prod(count_values(axis) for axis in space.values())
        there = f"only {len(found)} distinct settings" if limit == math.inf else f"{limit:.0f} settings"
        raise ConfigError(f"tune.trials: found {trials}; the space has {there} of three digits; widen it, or try fewer")
    return (TuningTrial(DEFAULT, {}), *found.values())


def _start_sequence(axes: int):
    import numpy as np
    from scipy.stats import qmc

    seed = int.from_bytes(hashlib.sha256(_SEED_NAME.encode()).digest()[:8], "big")
    # `seed` since SciPy 1.15 is another name of `rng`, which 1.13 does not know
    return qmc.Halton(axes, scramble=True, seed=np.random.default_rng(seed))  # pyright: ignore[reportCallIssue]


def name_cell_arm(arm: str, trial: str) -> str:
    """The name under which a trial of an arm is run: adamw.t03."""
    return f"{arm}.{trial}"


def split_cell_arm(name: str) -> tuple[str, str]:
    """Arm and trial of such a name."""
    arm, _, trial = name.rpartition(".")
    return arm, trial
