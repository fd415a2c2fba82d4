"""`paribus predict ... | head` ends quietly, without predicting what nobody reads."""

import subprocess
import sys
from pathlib import Path

from helpers.image_trees import tree
from helpers.trainings import run


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", val=30)
    small = ["experiment=smoke", "steps=2ba", "batch_size=6", "every.checkpoint=2ba", "every.evaluate=2ba"]
    words = ["data=folder", "data.form=folder", "data.size=16", "data.workers=0", f"data.root={root}"]
    _, folder = run(tmp_path / "runs", *small, *words)
    command = [sys.executable, "-m", "paribus.cli", "predict", str(folder), str(root / "val"), "--batch-size=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("file,class,probability")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(120) == 0
