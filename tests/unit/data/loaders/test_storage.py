"""keep=auto: one decision for all sets of a dataset, after the network is on the device. CUDA's memory is made up here,
and torch's meta device stands for its."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paribus.core.protocols import DeviceContext
from paribus.data.loaders import in_memory
from paribus.data.loaders.in_memory import Images, InMemoryLoader, build_in_memory_sets
from paribus.data.loaders.storage import choose_storage, plan_storage
from paribus.data.ops.input_spec import InputSpec, PadCrop

LOOK = InputSpec((0.5,) * 3, (0.5,) * 3, PadCrop(pad=0), flip=False, augment={})
IMAGE = 4 * 4 * 3  # bytes
META = DeviceContext(torch.device("meta"))


def test_what_fits_in_half_of_the_free_memory_goes_on_the_device_the_first_first() -> None:
    sizes = {"train": 60, "val": 30, "minival": 10}
    chosen = {
        free: [k for k, v in choose_storage(sizes, free).items() if v == "device"] for free in (60, 130, 190, 202)
    }
    assert chosen == {60: ["minival"], 130: ["train"], 190: ["train", "val"], 202: ["train", "val", "minival"]}


@given(st.lists(st.integers(0, 1000), max_size=5), st.integers(0, 4000))
def test_together_they_never_take_more_than_half(sizes: list[int], free: int) -> None:
    named = {str(k): size for k, size in enumerate(sizes)}
    chosen = choose_storage(named, free)
    assert list(chosen) == list(named)
    assert sum(named[k] for k, v in chosen.items() if v == "device") <= free / 2
    assert set(chosen.values()) <= {"device", "mapped"}


@pytest.mark.parametrize(("keep", "device"), [("auto", "cpu"), ("host", "cuda"), ("device", "cuda"), ("mapped", "cpu")])
def test_what_needs_no_decision_looks_at_no_memory(keep, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: pytest.fail("asked"))
    assert plan_storage(keep, torch.device(device), {"a": 1, "b": 2}) == {"a": keep, "b": keep}


def images(n: int) -> Images:
    return Images(torch.zeros(n, 4, 4, 3, dtype=torch.uint8), torch.arange(n) % 2, torch.arange(n))


class Memory:
    """CUDA's free memory, and what is stored where."""

    def __init__(self) -> None:
        self.free, self.asked, self.stored = 0, 0, dict[int, str]()

    def info(self, device: object) -> tuple[int, int]:
        self.asked += 1
        return self.free, 10**9


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    made, real = Memory(), Images.to_storage

    def recorded(self: Images, keep, device: torch.device) -> Images:
        done = real(self, keep, device)
        made.stored[len(self.ids)] = done.images.device.type
        return done

    monkeypatch.setattr(torch.cuda, "mem_get_info", made.info)
    monkeypatch.setattr(in_memory.Images, "to_storage", recorded)
    return made


@pytest.mark.parametrize("first", ["batch", "evaluation"])
@pytest.mark.parametrize(
    ("free", "on_device"),
    # 100 training images, 80 of validation, and a sample of 90 from the former: 360 at most
    [(1000, {100, 80, 90}), (400, {100, 80}), (210, {100}), (190, {80})],
)
def test_both_splits_share_one_half_of_what_is_free_at_the_first_read(
    first: str, free: int, on_device: set[int], memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_memory, "choose_train_sample", lambda n: torch.arange(90))
    memory.free = 10**9  # before there is a network
    data = build_in_memory_sets("x", images(100), images(80), 2, LOOK, META, None, 0)
    loader = data.loader(4, 0)
    assert (memory.asked, memory.stored) == (0, {}), "nothing is decided or stored while the network is not there"
    memory.free = free * IMAGE
    reads = [lambda: loader.batch(0), *(lambda s=s: next(iter(data.splits[s](8))) for s in ("val", "train_sample"))]
    for read in reads if first == "batch" else reads[::-1]:
        read()
        memory.free = 0  # what the sets themselves take changes nothing
    for read in reads:
        read()
    assert memory.asked == 1
    assert {n for n, where in memory.stored.items() if where == "meta"} == on_device
    assert set(memory.stored) == {100, 80, 90}


def test_a_rank_counts_its_share_of_what_is_evaluated(memory: Memory) -> None:
    place = DeviceContext(torch.device("meta"), rank=1, world=4)
    data = build_in_memory_sets("x", images(100), images(80), 2, LOOK, place, None, 0)
    memory.free = (2 * 100 + 2 * 20 + 1) * IMAGE
    loader = data.loader(4, 0)
    next(iter(data.splits["val"](8)))
    loader.batch(0)
    assert memory.stored == {20: "meta", 100: "meta"}


def test_a_set_alone_and_a_mode_that_is_named_are_stored_when_they_are_made(memory: Memory) -> None:
    memory.free = 1000 * IMAGE
    InMemoryLoader(images(10), LOOK, 2, META, 4, 0)
    assert memory.stored == {10: "meta"}
    memory.free = 10 * IMAGE
    InMemoryLoader(images(11), LOOK, 2, META, 4, 0, "device")
    InMemoryLoader(images(12), LOOK, 2, META, 4, 0, "auto")
    assert memory.stored == {10: "meta", 11: "meta", 12: "cpu"}
