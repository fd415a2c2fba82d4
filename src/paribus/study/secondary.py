"""The key `also` of study.yaml: metrics that are estimated beside the one that decides, each with its own direction.

An entry is a name, or {metric: NAME, higher_is_better: true | false | null, smallest_effect: 0.01, unit: points}. The
direction of an accuracy is known; of anything else it has to be said, since a calibration error or a rate of false
alarms that is taken for a score turns every verdict round.
"""

from collections.abc import Mapping
from typing import Any

from paribus.core.build import instantiate
from paribus.core.errors import ConfigError
from paribus.study.spec import SecondaryMetric
from paribus.study.units import is_accuracy, read_difference


def parse_secondary(entries: Any) -> tuple[SecondaryMetric, ...]:
    """The metrics of a list as YAML gives it, tuples for lists. Raises ConfigError that names the entry."""
    if not isinstance(entries, tuple):
        raise ConfigError(
            f"also: found {entries!r}; should be a list of metrics, each a name or a mapping with `metric`"
        )
    return tuple(_parse_one(entry, f"also.{i}") for i, entry in enumerate(entries))


def _parse_one(entry: Any, path: str) -> SecondaryMetric:
    values = dict(entry) if isinstance(entry, Mapping) else {"metric": entry}
    metric = values.get("metric")
    if isinstance(metric, str):
        is_known = is_accuracy(metric)
        if "higher_is_better" not in values:
            if not is_known:
                raise ConfigError(
                    f"{path}: {metric} is not an accuracy, so say which way is better: "
                    f"{{metric: {metric}, higher_is_better: false}} for an error or a loss, true for a score, null for "
                    "neither"
                )
            values["higher_is_better"] = True
        values.setdefault("unit", "points" if is_known else "none")
        if values.get("smallest_effect") is not None:
            values["smallest_effect"] = read_difference(
                values["smallest_effect"], metric, f"{path}.smallest_effect", values["unit"] == "points"
            )
    return instantiate(SecondaryMetric, values, path)
