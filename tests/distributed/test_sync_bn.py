"""runtime.sync_bn: refused where torch has none, without effect in one process, one statistic over ranks on CUDA."""

from pathlib import Path

import pytest
import torch

from helpers.trainings import trained
from helpers.worlds import COMMON, furthest, together, torchrun

NORMED = "model.norm=batch"


def test_on_a_cpu_it_is_one_line(tmp_path: Path) -> None:
    code, err = torchrun(
        2, "-m", "paribus.cli", "train", *COMMON, NORMED, "runtime.sync_bn=true", f"paths.runs={tmp_path}"
    )
    assert code != 0
    assert "runtime.sync_bn: found true; torch has it for CUDA alone" in err  # of both, if torchrun lets them
    assert not list(tmp_path.iterdir())


def test_in_one_process_it_changes_nothing(tmp_path: Path) -> None:
    without = trained(tmp_path / "without", *COMMON, NORMED)
    assert trained(tmp_path / "with", *COMMON, NORMED, "runtime.sync_bn=true").same_as(without)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_take_the_statistics_of_one(tmp_path: Path) -> None:
    overrides = [NORMED, "runtime.device=cuda", "update.precision=fp64", "steps=10ba"]
    one = trained(tmp_path / "one", *COMMON, *overrides)
    apart = together(tmp_path / "apart", 2, *overrides)
    shared = together(tmp_path / "shared", 2, *overrides, "runtime.sync_bn=true")
    assert furthest(one, shared) < 1e-9
    assert furthest(one, apart) > 1e-3, "the negative control: statistics of half the images are others"
