"""Making the next batch ahead changes no batch, in whatever order batches are asked for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.trainings import recipe_of
from paribus.core.batch import Batch
from paribus.core.protocols import DeviceContext
from paribus.core.streams import stream
from paribus.data.loaders.in_memory import Images, InMemoryLoader, StorageMode
from paribus.data.ops.input_spec import InputSpec, PadCrop
from paribus.engine.distributed import World
from paribus.engine.prefetch import PrefetchLoader, _PrefetchedBatch
from paribus.recipe.build import build_loader, make_device_context

CPU = torch.device("cpu")


class Counted:
    """Batches that say which step they are of, and a list of the steps that were made."""

    steps_per_epoch = 4

    def __init__(self) -> None:
        self.made: list[int] = []

    def batch(self, step: int) -> Batch:
        self.made.append(step)
        here = torch.tensor([step])
        return Batch(here[:, None, None, None].float(), here, here, here, 1, 9)


@settings(max_examples=50, deadline=None)
@given(asked=st.lists(st.integers(0, 9), max_size=20))
def test_any_order_gives_the_loaders_batches(asked: list[int]) -> None:
    ahead = PrefetchLoader(Counted(), CPU, total=10)
    assert [int(ahead.batch(step).targets) for step in asked] == asked


def test_each_batch_is_made_once_one_ahead_and_none_beyond_the_end() -> None:
    counted = Counted()
    ahead = PrefetchLoader(counted, CPU, total=5)
    for step in range(2, 5):  # as on from a checkpoint
        ahead.batch(step)
        assert counted.made == list(range(2, min(step + 2, 5)))
    assert ahead.steps_per_epoch == 4


def test_only_cuda_has_it() -> None:
    recipe = recipe_of("experiment=smoke")
    place = make_device_context(recipe, CPU, World())
    assert not isinstance(build_loader(recipe, recipe.data(place), place), PrefetchLoader)


class Ready:
    """A stream, or what is waited for on one, where there are none."""

    def wait_event(self, event: "Ready") -> None: ...


def test_memory_of_all_that_a_batch_has_stays_until_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    here, recorded = torch.arange(3), list[int]()
    batch = Batch(here.float(), here + 1, here + 2, here + 3, 3, 9, also={"box": here + 4, "group": here + 5})
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Ready())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: recorded.append(id(tensor)))
    ahead = PrefetchLoader(Counted(), CPU, total=1)
    ahead._ready = _PrefetchedBatch(0, batch, Ready())  # type: ignore[arg-type]
    assert ahead.batch(0) is batch
    fields = (batch.inputs, batch.targets, batch.ids, batch.positions, *batch.also.values())
    assert sorted(recorded) == sorted(map(id, fields))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("keep", ["device", "host"])
def test_on_cuda_batches_stay_right_while_steps_overwrite_memory(keep: StorageMode) -> None:
    place = DeviceContext(torch.device("cuda", 0), memory_format=torch.channels_last)
    pixels = torch.randint(0, 256, (256, 12, 12, 3), generator=stream(0, "pixels"), dtype=torch.uint8)
    data = Images(pixels, torch.arange(256) % 10, torch.arange(256))
    look = InputSpec((0.5,) * 3, (0.3,) * 3, PadCrop(pad=2), flip=True)
    plain, wrapped = (InMemoryLoader(data, look, 10, place, 32, 0, keep) for _ in range(2))
    ahead = PrefetchLoader(wrapped, place.device, 200)
    for step in range(200):
        batch, wanted = ahead.batch(step), plain.batch(step)
        assert torch.equal(batch.inputs, wanted.inputs), step
        assert torch.equal(batch.targets, wanted.targets), step
        work = torch.randn(512, 512, device="cuda")
        for _ in range(20):  # keeps the stream busy, and takes and frees memory of the batch's size
            work = work @ work
            torch.empty_like(batch.inputs).fill_(7.0)
