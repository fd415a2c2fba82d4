"""One run: how it is trained, resumed, verified and read. `paribus.runs(FOLDER)` finds the runs under a folder.

The package itself is what is called there: it has the name of that function, and a module that is imported hides a
function of its name. So its class, which Python looks `__call__` up in, is one that has it.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paribus.runs.run import RunList


class _CallableRuns(ModuleType):
    def __call__(self, folder: str | Path = "runs") -> "RunList":
        """The runs directly under a folder, as `paribus list runs` has them. Raises ConfigError if there is none."""
        from paribus.runs.run import find_runs

        return find_runs(folder)


sys.modules[__name__].__class__ = _CallableRuns
