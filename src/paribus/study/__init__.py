"""Many runs that answer one question. `paribus.study(FOLDER)` reads the results of a study.

The package itself is what is called there; why, stands in paribus/runs/__init__.py.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paribus.study.results import StudyResults


class _CallableStudy(ModuleType):
    def __call__(self, folder: str | Path, runs: str | Path | None = None) -> "StudyResults":
        """The results of the study in a folder (or of a study.yaml). runs: the folder of its runs, if it is not
        runs/NAME. Raises ConfigError if there is no study, or study.yaml has a mistake."""
        from paribus.study.results import open_study

        return open_study(folder, runs)


sys.modules[__name__].__class__ = _CallableStudy
