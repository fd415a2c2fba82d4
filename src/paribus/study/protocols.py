"""The settings that evaluators measure with are in no recipe's id, and numbers of two protocols must not be paired.

So a plan has, for each arm, the settings of those evaluators that declare what the study judges by. A change of them is
refused once there are rows, and so is measuring finished runs with others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from paribus.core.errors import ConfigError
from paribus.study.measures import diff_protocols
from paribus.study.rows import Row

if TYPE_CHECKING:
    from paribus.study.plan import Cell, Plan


def check_protocols(plan: Plan, before: Plan | None, rows: Iterable[Row]) -> None:
    """Raises ConfigError where an evaluator has other settings than rows on record were measured with. before: the plan
    of the rows; where it does not have the settings, the overrides are compared."""
    if before is None:
        return
    cells, old = plan.by_name(), before.by_name()
    for row in rows:
        if row.state != "done" or row.cell not in old or row.cell not in cells:
            continue
        for name, config in plan.protocols.get(row.arm, {}).items():
            known = before.protocols.get(row.arm, {}).get(name)
            if known is not None:
                changed = diff_protocols(known, config)
            else:
                was, now = (_list_settings(cell, name) for cell in (old[row.cell], cells[row.cell]))
                changed = None if was == now else (", ".join(was) or "its defaults", ", ".join(now) or "its defaults")
            if changed is not None:
                raise ConfigError(
                    f"evaluators.{name}: rows of {row.arm} were measured with {changed[0]}, and this is {changed[1]}; "
                    "put it back, or ask again in a new study"
                )


def check_planned_protocol(plan: Plan, name: str, config: Mapping[str, Any]) -> None:
    """Raises ConfigError where an arm's runs measure with other settings of an evaluator than these."""
    for arm, protocols in plan.protocols.items():
        if name in protocols and (changed := diff_protocols(protocols[name], config)) is not None:
            raise ConfigError(
                f"evaluators.{name}: runs of {arm} measure with {changed[0]}, and this is {changed[1]}; give the same "
                "settings, since numbers of two protocols are not compared"
            )


def _list_settings(cell: Cell, evaluator: str) -> list[str]:
    """A cell's overrides of an evaluator."""
    keys = (f"evaluators.{evaluator}.", f"+evaluators.{evaluator}.", f"++evaluators.{evaluator}.")
    return sorted(override for override in cell.overrides if override.startswith(keys))
