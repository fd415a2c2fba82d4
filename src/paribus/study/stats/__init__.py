"""The statistics of a study, in one place to import from. What each number means: docs/statistics.md.

Input is a mapping seed -> value for each arm; a NaN, an infinity or an absent seed is a failed cell and is listed,
never silently dropped. Outputs are frozen dataclasses; NaN in them means "undefined", and `to_plain` makes them JSON.

    rule = Rule(margin=0.005, higher_is_better=True)               # fixed in advance; checks its ranges (ConfigError)
    compare_several([ece, auroc], pairs, [rule, ...])              # the same over several metrics: one family
    summarise(arms["cutmix"], seeds)                               # ArmSummary: n, mean, sd, se, missing
    compare_all(arms, [("cutmix", "baseline"), ...], rule)         # Comparison each; together one family
    str(comparison.judgement)                                      # "undecided (about 7 more seeds)"
    pairing(arms["cutmix"], arms["baseline"])                      # correlation, variance ratio, P(A > B)
    robustness(comparison, "quickstart val/acc1")                  # sign-flip p, BCa interval
    selection_bias(curves)                                         # what best-epoch would have added
    factorial_effects(["cutmix", "adamp"], {frozenset(): ..., ...}, rule)  # main effects, pairwise interactions
    compare_times(arrivals, pairs, rule)                           # time to a target, censored
    seeds_to_decide(0.005, sd=0.004)                               # planning: see study/stats/power.py
    decide(estimates, SequentialPlan(5, 5, 30), rule, look=1)      # stopping when it is decided: sequential.py

Cost: 0.2 ms per comparison; robustness rows 10 ms at 20 seeds, 40 ms at 50. SciPy is imported by the first comparison.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from paribus.study.stats.estimate import Estimate, Values
from paribus.study.stats.factorial import Effect, factorial_effects
from paribus.study.stats.paired import (
    ArmSummary,
    Comparison,
    Pairing,
    SelectionBias,
    compare,
    compare_all,
    compare_several,
    pairing,
    selection_bias,
    summarise,
)
from paribus.study.stats.power import (
    minimum_detectable,
    sd_interval,
    seeds_for_difference,
    seeds_for_equivalence,
    seeds_for_unpaired_difference,
    seeds_to_decide,
)
from paribus.study.stats.resampling import Robustness, robustness
from paribus.study.stats.sequential import Decision, SequentialPlan, arms_to_run, decide
from paribus.study.stats.time_to_target import (
    Arrival,
    ArrivalSummary,
    TimeComparison,
    common_horizon,
    compare_times,
    find_arrival,
    summarise_arrivals,
)
from paribus.study.stats.verdict import Judgement, Rule, Verdict, holm, judge

__all__ = [
    "ArmSummary",
    "Arrival",
    "ArrivalSummary",
    "Comparison",
    "Decision",
    "Effect",
    "Estimate",
    "Judgement",
    "Pairing",
    "Robustness",
    "Rule",
    "SelectionBias",
    "SequentialPlan",
    "TimeComparison",
    "Values",
    "Verdict",
    "arms_to_run",
    "common_horizon",
    "compare",
    "compare_all",
    "compare_several",
    "compare_times",
    "decide",
    "factorial_effects",
    "find_arrival",
    "holm",
    "judge",
    "minimum_detectable",
    "pairing",
    "robustness",
    "sd_interval",
    "seeds_for_difference",
    "seeds_for_equivalence",
    "seeds_for_unpaired_difference",
    "seeds_to_decide",
    "selection_bias",
    "summarise",
    "summarise_arrivals",
    "to_plain",
]


def to_plain(result: Any) -> Any:
    """Any result of this package as JSON types: mappings, lists, strings, numbers; NaN and infinities are null."""
    if is_dataclass(result) and not isinstance(result, type):
        return {field.name: to_plain(getattr(result, field.name)) for field in fields(result)}
    if isinstance(result, Enum):
        return result.value
    if isinstance(result, float):
        return result if math.isfinite(result) else None
    if isinstance(result, Mapping):
        return {str(key): to_plain(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [to_plain(item) for item in result]
    return result
