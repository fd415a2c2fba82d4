"""The card of a technique: what stands at the top of the module in which it is written."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from paribus.conformance.trainings import Trial
from paribus.core.build import resolve
from paribus.recipe.overlays import overlay_rule
from paribus.recipe.smoke import compose_small


def find_card(subject: Trial) -> str:
    """The docstrings of the modules whose classes the overlay brings in, or of the classes where a module has none; ""
    if there are none either."""
    cfg = compose_small(subject.overrides, subject.techniques, subject.config_dir)
    there = set(_list_classes(subject.baseline.recipe().config))
    packages = subject.recipe().packages
    cards: dict[str, str] = {}
    for name in subject.techniques:
        rule = overlay_rule(name, cfg["overlays"][name])
        swapped = [new for swaps in rule.swap.values() for new in swaps.values()]
        expected = [cls for wanted in rule.expect.values() for cls in ([wanted] if isinstance(wanted, str) else wanted)]
        for target in [*swapped, *expected]:
            if target not in there:
                cls = resolve(target, "", packages)
                card = inspect.getdoc(sys.modules[cls.__module__]) or _own_docstring(cls)
                cards[cls.__module__] = cards.get(cls.__module__) or card
    return "\n\n".join(filter(None, cards.values()))


def _own_docstring(cls: type[Any]) -> str:
    text = inspect.getdoc(cls) or ""
    return "" if text.startswith(f"{cls.__name__}(") else text  # which dataclass makes up where there is none


def _list_classes(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from _list_classes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _list_classes(value)
