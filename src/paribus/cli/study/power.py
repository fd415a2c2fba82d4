"""`paribus study plan --power`: how many seeds the smallest effect needs, by the recorded spread."""

import math
from collections.abc import Sequence

from paribus.core.errors import ConfigError
from paribus.study.report.wording import choose_unit
from paribus.study.rows import Row
from paribus.study.spec import Study
from paribus.study.stats import Rule, compare_all, sd_interval, seeds_to_decide

POWER = 0.8


def power_lines(study: Study, rows: Sequence[Row]) -> list[str]:
    """A heading, and a line for each comparison. Raises ConfigError where fewer than two seeds are recorded."""
    spec = study.spec
    values = {
        arm: {r.seed: r.metrics[spec.metric] for r in rows if r.arm == arm and spec.metric in r.metrics}
        for arm in spec.arms
    }
    pairs = [(pair.arm, pair.against) for pair in spec.comparisons]
    rule = Rule(margin=spec.smallest_effect, higher_is_better=spec.higher_is_better)
    unit = choose_unit(spec.metric, [])
    lines = [
        f"seeds needed to find a true difference of {unit.size(spec.smallest_effect)} in {spec.metric}, "
        f"and to call a difference of 0 equivalent, each with {POWER:.0%} power:"
    ]
    for (arm, against), found in zip(pairs, compare_all(values, pairs, rule), strict=True):
        n, sd = found.estimate.n, found.estimate.sd
        if n < 2 or math.isnan(sd):
            raise ConfigError(
                f"--power: {arm} against {against} has {n} recorded seeds; the spread needs at least 2, "
                "so run those first (seeds: 3 in study.yaml, and more later)"
            )
        low, high = (seeds_to_decide(spec.smallest_effect, sd=s, power=POWER) for s in sd_interval(sd, n))
        needed = seeds_to_decide(spec.smallest_effect, sd=sd, power=POWER)
        how = "a paired difference" if found.paired else "an unpaired difference"
        spread = f"sd of {how} {sd * unit.scale:.3g} {unit.differences}".rstrip()
        lines.append(
            f"  {arm} against {against}: {needed} ({spread} over {n} seeds; {low} to {high} at the ends of its "
            "95 % interval)"
        )
    return lines
