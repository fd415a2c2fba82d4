"""The trackers of a run as one: the record first, and others that may fail without harm."""

import sys
from collections.abc import Callable
from typing import Any

from paribus.core.errors import explain_exception
from paribus.core.protocols import Tracker
from paribus.recipe.recipe import Recipe
from paribus.tracking.console import ConsoleLines
from paribus.tracking.events import Events


class Trackers:
    """Several trackers as one. The first is the record and must work. The others are mirrors of it: one that fails is
    off from then on, with a warning, and what one does to its values no other sees."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers

    def log(self, step: int, values: Any) -> None:
        self._each(self._trackers, lambda tracker: tracker.log(step, dict(values)))

    def close(self, summary: Any) -> None:
        # the record comes last here: if it cannot be written any more, the others have still ended well
        self._each(self._trackers[::-1], lambda tracker: tracker.close(summary))

    def _each(self, trackers: list[Tracker], call: Callable[[Tracker], None]) -> None:
        for tracker in list(trackers):
            try:
                call(tracker)
            except Exception as error:
                if tracker is self._trackers[0]:
                    raise
                self._trackers.remove(tracker)
                _warn(tracker, error)


def _warn(tracker: object, error: Exception) -> None:
    why = explain_exception(error)
    print(f"warning: {type(tracker).__name__} failed and is dropped, training goes on: {why}", file=sys.stderr)


def open_trackers(recipe: Recipe, start: int, total: int, quiet: bool) -> Trackers:
    """The local record first and always, then the others of the config that can be opened."""
    left_out = (Events, ConsoleLines) if quiet else Events
    opened: list[Tracker] = [Events()(recipe.folder, start, total)]
    for factory in recipe.tracker.values():
        if factory is not None and not isinstance(factory, left_out):
            try:
                opened.append(factory(recipe.folder, start, total))
            except Exception as error:
                _warn(factory, error)
    return Trackers(opened)
