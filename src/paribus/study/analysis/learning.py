"""Whether an arm was still learning when its runs ended, by its loss on unmixed training images.

A worse arm may be a worse technique, or one that needs longer. The objective cannot tell: a technique that mixes
targets raises it. The cross entropy of the plain labels on training images as they are asks every arm the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from paribus.study.analysis.question import ArmPair
from paribus.study.stats import Rule, Values, compare_all, summarise

UNMIXED_LOSS = "train/unmixed_loss"
# "Far above" the baseline's: by half and more, and 0.2 nats at least. Below that a ratio means nothing (0.01 and
# 0.002 are both learnt), and smoothed labels alone hold it near 0.1.
FAR_RATIO, LEAST_LOSS = 1.5, 0.2


@dataclass(frozen=True)
class StillLearning:
    """loss, baseline_loss: means at the last step over the n seeds compared. low, high: of the 95 % interval of their
    difference."""

    arm: str
    baseline: str
    n: int
    loss: float
    baseline_loss: float
    low: float
    high: float


def find_still_learning(values: Mapping[str, Values], pair: ArmPair) -> StillLearning | None:
    """The pair's losses where the arm's is far above the baseline's: the interval of the difference is above 0, the
    ratio of means at least FAR_RATIO, the arm's mean at least LEAST_LOSS. values: arm -> seed -> loss.

    Not adjusted for the number of arms: a remark beside a verdict, and no verdict depends on it.
    """
    (found,) = compare_all({name: values.get(name, {}) for name in pair}, [pair], Rule(higher_is_better=False))
    used = {
        name: {s: v for s, v in values.get(name, {}).items() if not found.paired or s in found.seeds} for name in pair
    }
    loss, baseline_loss = (summarise(used[name]).mean for name in pair)
    # every comparison with a NaN is false: without losses, or with one seed, nothing is said
    if found.estimate.low > 0 and loss >= FAR_RATIO * baseline_loss and loss >= LEAST_LOSS:
        return StillLearning(*pair, found.estimate.n, loss, baseline_loss, found.estimate.low, found.estimate.high)
    return None
