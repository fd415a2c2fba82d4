"""Factorial studies: k techniques on or off in all 2^k combinations, every combination on the same seeds.

One contrast per seed, then a one-sample t on the contrasts: what a seed's runs share cancels, as in a pair.

* Main effect of A: mean over the 2^(k-1) arms with A minus mean over those without, "what A adds on average over the
  settings of the other factors".
* Interaction of A and B: what A adds with B on minus what A adds with B off, averaged over the others (a difference of
  differences, not halved). Below 0, where higher is better: together they add less than their separate effects suggest.

Every contrast uses every arm, so a seed with a failed cell gives no contrast; it is left out of all of them and listed.
The k main effects and the k (k-1) / 2 interactions are one family.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from paribus.core.errors import ConfigError
from paribus.study.stats.estimate import Estimate, Values, drop_failed, one_sample
from paribus.study.stats.verdict import Judgement, Rule, judge


@dataclass(frozen=True, slots=True)
class Effect:
    """A main effect (one factor) or an interaction (two), in the metric's unit. seeds: those with every cell."""

    factors: tuple[str, ...]
    estimate: Estimate
    judgement: Judgement
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]


def factorial_effects(factors: Sequence[str], arms: Mapping[frozenset[str], Values], rule: Rule) -> tuple[Effect, ...]:
    """Main effects in the order of `factors`, then their pairwise interactions.

    arms: for each set of factors that are on, the empty one included, seed -> value.
    Raises ConfigError unless the arms are exactly all 2^k combinations.
    """
    _check_combinations(factors, arms)
    finished = {on: drop_failed(values) for on, values in arms.items()}
    listed = sorted({seed for values in arms.values() for seed in values})
    seeds = tuple(seed for seed in listed if all(seed in values for values in finished.values()))
    left_out = tuple(seed for seed in listed if seed not in set(seeds))
    effect_names = [*combinations(factors, 1), *combinations(factors, 2)]
    scale = max((abs(values[s]) for values in finished.values() for s in seeds), default=0.0)
    estimates = [
        one_sample(
            _compute_contrasts(names, factors, finished, seeds), margin=rule.margin, alpha=rule.alpha, scale=scale
        )
        for names in effect_names
    ]
    return tuple(
        Effect(names, estimate, judgement, seeds, left_out)
        for names, estimate, judgement in zip(effect_names, estimates, judge(estimates, rule), strict=True)
    )


def _compute_contrasts(
    names: tuple[str, ...], factors: Sequence[str], finished: Mapping[frozenset[str], Values], seeds: Sequence[int]
) -> list[float]:
    cells = 2 ** (len(factors) - len(names))  # that each sum of the contrast averages over
    signs = {on: math.prod(1 if name in on else -1 for name in names) for on in finished}
    return [math.fsum([signs[on] * values[seed] for on, values in finished.items()]) / cells for seed in seeds]


def _check_combinations(factors: Sequence[str], arms: Mapping[frozenset[str], Values]) -> None:
    if not factors or len(set(factors)) < len(factors):
        raise ConfigError(f"factors: found {list(factors)}, must be one or more different names")
    expected = {frozenset(on) for size in range(len(factors) + 1) for on in combinations(factors, size)}
    for problem, sets in (("no arm has", expected - arms.keys()), ("unknown combination:", arms.keys() - expected)):
        if sets:
            names = ["+".join(sorted(on)) or "(none on)" for on in sorted(sets, key=lambda on: (len(on), sorted(on)))]
            raise ConfigError(f"a factorial study needs all {len(expected)} combinations; {problem} {', '.join(names)}")
