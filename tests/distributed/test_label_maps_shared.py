"""ReLabel before CutMix: partners come with their own crops and maps, and several processes train the net of one."""

from pathlib import Path

import pytest

from helpers.trainings import recipe_of, result_in, trained
from helpers.worlds import furthest, in_worlds, torchrun
from paribus.core.protocols import DeviceContext
from paribus.techniques.relabel import ExampleMaps

SMOKE = ("experiment=smoke", "steps=20ba", "runtime.threads=1", "runtime.device=cpu", "update.precision=fp64")
MORE = ("every.evaluate=20ba", "tracker=events")
BOTH = ("relabel", "cutmix")


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch

    file = tmp_path_factory.mktemp("maps") / "maps.safetensors"
    file.write_bytes(ExampleMaps()(recipe_of("experiment=smoke").data(DeviceContext(torch.device("cpu")))))
    return f"transforms.relabel.maps={file}"


@pytest.mark.parametrize("processes", in_worlds())
def test_several_processes_train_the_net_of_one(processes: int, maps: str, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *SMOKE, *MORE, maps, techniques=BOTH)
    words = ("train", *SMOKE, *MORE, maps, f"technique=[{','.join(BOTH)}]", f"paths.runs={tmp_path / 'several'}")
    code, err = torchrun(processes, "-m", "paribus.cli", *words)
    assert code == 0, err
    (folder,) = (tmp_path / "several").iterdir()
    assert furthest(one, result_in(folder)) <= 1e-9  # promised: 1e-6


def test_negative_control_labels_of_the_whole_image_are_another_net(maps: str, tmp_path: Path) -> None:
    local = trained(tmp_path / "local", *SMOKE, *MORE, maps, techniques=BOTH)
    whole = trained(tmp_path / "global", *SMOKE, *MORE, maps, "transforms.relabel.where=global", techniques=BOTH)
    assert furthest(local, whole) > 1e-3
