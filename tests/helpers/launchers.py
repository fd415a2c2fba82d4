"""Launchers of a study whose cells only pretend: in this process, several at a time, or in one that can be killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.pretended_cells import pretend
from paribus.study.load import load_study
from paribus.study.plan import Plan, require_plan
from paribus.study.runner import cells
from paribus.study.runner.launcher import Launch
from paribus.study.runner.progress import LaunchProgress
from paribus.study.runner.signals import LaunchStop
from paribus.study.runner.slots import LaunchSettings
from paribus.study.spec import Study


def runs_of(study: Study) -> Path:
    return study.folder.parent / "runs"


def launch(
    study: Study, plan: Plan, *, workers: int = 2, leave: LaunchStop | None = None, **settings: object
) -> Launch:
    """A launcher that has not begun."""
    options = LaunchSettings(runs_of(study), workers, **settings)  # type: ignore[arg-type]
    return Launch(study, plan, options, LaunchProgress(), leave or LaunchStop())


def launched(study: Study, plan: Plan, **options: object) -> Launch:
    """A launcher that has ended."""
    made = launch(study, plan, **options)  # type: ignore[arg-type]
    made.run()
    return made


@contextmanager
def launch_apart(study: Study, script: dict[str, list[str]], workers: int) -> Iterator[subprocess.Popen[bytes]]:
    """A launcher in a process of its own, with cells that do what the script says: see `pretend`."""
    asked = json.dumps({"study": str(study.folder), "script": script, "workers": workers})
    source = str(Path(cells.__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": source}
    with subprocess.Popen([sys.executable, __file__, asked], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def starts(study: Study, plan: Plan) -> dict[str, int]:
    """How often each cell was started, by its log."""
    logs = {cell.name: cells.log_path(runs_of(study), cell) for cell in plan.cells}
    return {name: log.read_text().count("== start ") if log.exists() else 0 for name, log in logs.items()}


def has_begun(study: Study, plan: Plan, name: str) -> bool:
    """Whether a pretended cell holds its run folder, and listens to signals."""
    return (runs_of(study) / plan.by_name()[name].folder / "begun").exists()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def main() -> None:
    asked = json.loads(sys.argv[1])
    pretend(pytest.MonkeyPatch(), asked["script"])
    study = load_study(Path(asked["study"]))
    launched(study, require_plan(study), workers=asked["workers"])


if __name__ == "__main__":
    main()
