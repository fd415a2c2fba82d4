"""The settings that evaluators measure with are in no recipe's id, and numbers of two protocols must not be paired.

So a plan has, for each arm, the settings of those evaluators that declare what the study judges by. A change of them is
refused once there are rows, and so is measuring finished runs with others.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paribus.core.errors import ConfigError
from paribus.study.measures import diff_protocols
from paribus.study.rows import Row

Protocols = Mapping[str, Mapping[str, Any]]  # arm -> evaluator -> its settings


def check_protocols(
    now: Protocols, before: Protocols, overrides: Mapping[str, tuple[Sequence[str], Sequence[str]]], rows: Iterable[Row]
) -> None:
    """Raises ConfigError where an evaluator has other settings than rows on record were measured with. before: of the
    plan of the rows. overrides: cell -> its overrides before and now, which are compared where the settings of before
    are not known."""
    for row in rows:
        if row.state != "done" or row.cell not in overrides:
            continue
        for name, config in now.get(row.arm, {}).items():
            known = before.get(row.arm, {}).get(name)
            if known is not None:
                changed = diff_protocols(known, config)
            else:
                was, is_now = (_list_settings(own, name) for own in overrides[row.cell])
                changed = (
                    None if was == is_now else (", ".join(was) or "its defaults", ", ".join(is_now) or "its defaults")
                )
            if changed is not None:
                raise ConfigError(
                    f"evaluators.{name}: rows of {row.arm} were measured with {changed[0]}, and this is {changed[1]}; "
                    "put it back, or ask again in a new study"
                )


def check_planned_protocol(planned: Protocols, name: str, config: Mapping[str, Any]) -> None:
    """Raises ConfigError where an arm's runs measure with other settings of an evaluator than these."""
    for arm, protocols in planned.items():
        if name in protocols and (changed := diff_protocols(protocols[name], config)) is not None:
            raise ConfigError(
                f"evaluators.{name}: runs of {arm} measure with {changed[0]}, and this is {changed[1]}; give the same "
                "settings, since numbers of two protocols are not compared"
            )


def _list_settings(overrides: Sequence[str], evaluator: str) -> list[str]:
    """The overrides of an evaluator."""
    keys = (f"evaluators.{evaluator}.", f"+evaluators.{evaluator}.", f"++evaluators.{evaluator}.")
    return sorted(override for override in overrides if override.startswith(keys))
