"""`paribus eval` under torchrun: the images are shared, and the counts are those of one process."""

import subprocess
from pathlib import Path

from helpers.trainings import run
from helpers.worlds import torchrun_command
from paribus.cli.main import dispatch


def test_two_processes_count_what_one_counts(tmp_path: Path) -> None:
    small = ["experiment=smoke", "steps=4ba", "batch_size=16", "every.checkpoint=4ba", "every.evaluate=4ba"]
    _, folder = run(tmp_path / "runs", *small, "data.size=8", "data.n=32", "data.val_n=51")
    words = ["eval", str(folder), "--confusion", "--out"]
    assert dispatch([*words, str(tmp_path / "one")]) == 0
    command = torchrun_command(2, "-m", "paribus.cli", *words, str(tmp_path / "two"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("val/acc1 ") == 1  # one process prints
    one, two = ((tmp_path / name / "confusion-val.csv").read_text() for name in ("one", "two"))
    assert one == two
    assert sum(int(cell) for row in two.splitlines()[1:] for cell in row.split(",")[1:]) == 51
