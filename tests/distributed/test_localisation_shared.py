"""The localisation of one process and of several: the same counts, so the same numbers to the last digit."""

import json
import subprocess
from pathlib import Path

import pytest

from helpers import localising
from helpers.image_trees import tree
from helpers.worlds import in_worlds, torchrun_command


def with_boxes(root: Path) -> Path:
    tree(root, train=7, val=5)
    paths = [path.relative_to(root).as_posix() for path in sorted(root.glob("*/*/*.png"))]
    lines = "".join(f"{path},{i % 9},{i % 7},{i % 9 + 25},{i % 7 + 27}\n" for i, path in enumerate(paths))
    (root / "boxes.csv").write_text("path,x0,y0,x1,y1\n" + lines)
    return root


@pytest.mark.parametrize("world", in_worlds())
def test_processes_find_the_boxes_of_one(world: int, tmp_path: Path) -> None:
    root = with_boxes(tmp_path)
    alone = localising.measure(root)
    assert 0 < alone["metrics"]["val/box_acc"] < 1
    command = torchrun_command(world, localising.__file__, str(root))
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == alone


def test_negative_control_a_share_alone_is_something_else(tmp_path: Path) -> None:
    root = with_boxes(tmp_path)
    with pytest.raises(AssertionError):
        assert localising.measure(root, rank=1, world=4) == localising.measure(root)
