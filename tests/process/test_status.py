"""`paribus study status` as a process."""

import resource
import subprocess
import sys
import time
from pathlib import Path

from helpers.studies import finished, made_up_plan, row, written
from paribus.study import rows as rows_file
from paribus.study.runner.cells import log_path
from paribus.study.status import build_status, to_json


def test_status_of_a_thousand_runs_takes_less_than_a_second(tmp_path: Path) -> None:
    study = written(tmp_path / "study", arms={f"arm{i}": [f"x={i}"] for i in range(10)}, seeds=100)
    made = made_up_plan(study)
    runs = tmp_path / "runs"
    for i, cell in enumerate(made.cells):
        log_path(runs, cell).parent.mkdir(exist_ok=True)
        if i % 10 < 8:
            finished(runs / cell.folder, cell, state="DONE" if i % 10 < 7 else "FAILED")
            (runs / cell.folder / "lock").touch()
            log_path(runs, cell).write_text("== start\n" + "line\n" * 200 + f"== ended with {int(i % 10 == 7)}\n")
    rows_file.update_rows(study, [row(cell) for i, cell in enumerate(made.cells) if i % 10 < 7], made.ids())
    found = build_status(made, rows_file.read_rows(study.results_path), runs, time.time())
    assert found.counts() == {"done": 700, "running": 0, "failed": 100, "waiting": 200}
    assert to_json(found, study.spec.arms)["arms"]["arm3"] == {"done": 70, "running": 0, "failed": 10, "waiting": 20}
    code = (
        "import sys; from paribus.cli.main import dispatch; code = dispatch(sys.argv[1:]); "
        "heavy = {'torch', 'hydra', 'numpy', 'scipy'} & set(sys.modules); print(heavy or 'light'); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "study", "status", str(study.folder), "--runs", str(runs)]
    before = _seconds_of_children()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "light"
    assert _seconds_of_children() - before < 1, "processor time, which a busy machine does not change"


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
