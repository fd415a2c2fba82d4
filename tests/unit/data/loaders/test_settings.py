"""How many processes decode: data.workers, by default from the cores that a process has to itself."""

from pathlib import Path

import pytest
import torch

from helpers.image_trees import images, tree
from helpers.trainings import recipe_of
from paribus.core.protocols import DeviceContext
from paribus.data import images as image_sets
from paribus.data.loaders import from_files, settings
from paribus.data.loaders.settings import choose_workers
from paribus.data.loaders.worker_pool import PREFETCH_FACTOR
from paribus.engine import threads
from paribus.engine.world import World
from paribus.recipe.build import make_device_context
from paribus.recipe.configs import find_config_folder, list_options

IMAGE = 224 * 224 * 3


def on(cores: int | None) -> DeviceContext:
    return DeviceContext(torch.device("cpu"), cores=cores)


@pytest.mark.parametrize(
    ("setting", "cores", "item", "workers"),
    [
        ("auto", 1, 64 * IMAGE, 1),  # never none: the training would decode between its steps
        ("auto", 2, 64 * IMAGE, 1),
        ("auto", 8, 256 * IMAGE, 7),
        ("auto", 16, 256 * IMAGE, 15),
        ("auto", 500, 64 * IMAGE, 32),
        ("auto", 64, 1024 * IMAGE, 13),  # 4 GiB of batches made ahead
        ("auto", 64, 10**11, 1),
        (0, 64, IMAGE, 0),
        (100, 2, 10**11, 100),  # as it was asked for
    ],
)
def test_auto_leaves_a_core_to_the_training(setting, cores: int, item: int, workers: int) -> None:
    assert choose_workers(setting, on(cores), item) == workers
    if setting == "auto" and workers > 1:
        assert workers * PREFETCH_FACTOR * item <= 4 * 2**30


def test_where_nobody_says_the_cores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "count_cores", lambda: 6)
    assert choose_workers("auto", on(None), IMAGE) == 5


@pytest.mark.parametrize(
    ("world", "env", "cores"),
    [
        (World(), {}, 16),
        (World(0, 4, 0, 4, "h:1", "torchrun"), {}, 4),
        (World(0, 8, 0, 4, "h:1", "torchrun"), {}, 4),  # two machines
        (World(0, 4, 0, 4, "h:1", "srun"), {"SLURM_CPUS_PER_TASK": "6"}, 6),
        (World(0, 4, 0, 4, "h:1", "torchrun"), {"OMP_NUM_THREADS": "1"}, 4),  # torchrun sets it to 1
    ],
)
def test_a_process_has_its_share_of_the_cores(
    world: World, env: dict[str, str], cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"):
        monkeypatch.delenv(key, raising=False)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(threads, "count_cores", lambda: 16)
    assert make_device_context(recipe_of("experiment=smoke"), torch.device("cpu"), world).cores == cores


def test_training_and_evaluation_take_as_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[int]()

    class Pool:
        def __init__(self, make, count: int, pinned: bool = False) -> None:
            started.append(count)
            self.take = lambda index: make(index, lambda: True)

        def close(self) -> None: ...

    monkeypatch.setattr(from_files, "WorkerPool", Pool)
    data = images(tree(tmp_path), workers="auto")(on(4))
    data.loader(6, 0)
    list(data.splits["val"](8))
    assert started == [3, 3]
    assert images(tmp_path).workers == 0
    assert image_sets.ImageSet(name="folder").workers == "auto"


def test_every_shipped_set_that_decodes_says_auto_and_no_id_depends_on_it() -> None:
    texts = {n: (find_config_folder() / "data" / f"{n}.yaml").read_text() for n in list_options("data")}
    decoding = [name for name, text in texts.items() if "\nworkers:" in text]
    assert {"folder", "imagenet", "imagenette"} <= set(decoding)
    for name in decoding:
        assert "\nworkers: auto " in texts[name], name
    ids = {recipe_of("data=imagenette", *given).id for given in ((), ("data.workers=0",), ("data.workers=auto",))}
    assert len(ids) == 1


def test_a_pack_that_a_run_waits_for_takes_every_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_sets, "count_cores", lambda: 5)
    found = {w: images(tmp_path, workers=w)._prepare_request(tmp_path, None).workers for w in ("auto", 0, 3)}
    assert found == {"auto": 5, 0: 1, 3: 3}
