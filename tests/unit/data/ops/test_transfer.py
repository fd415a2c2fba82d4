"""What the host decides reaches the device in one copy that nobody waits for, and only chosen images are computed."""

import pytest
import torch
from torch import Tensor

from helpers.launches import META, Launches
from paribus.core.streams import stream
from paribus.data.ops import transfer
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.transfer import change_where, to_device

MIXED = (
    torch.arange(3),
    torch.tensor([[True, False, True]]),
    torch.rand(2, 3, generator=stream(0, "test.transfer")).double(),
    torch.zeros(0, 6),
    torch.tensor(7, dtype=torch.int32),
    torch.arange(12).view(3, 4).T,  # not contiguous
    torch.arange(5, dtype=torch.uint8),
)


def test_packed_tensors_come_out_as_they_went_in() -> None:
    there = transfer._unpack(transfer._pack(MIXED, pinned=False), MIXED)
    for got, wanted in zip(there, MIXED, strict=True):
        assert got.dtype == wanted.dtype
        assert torch.equal(got, wanted)


def test_many_tensors_are_one_copy_without_a_wait() -> None:
    near = torch.empty(4, device=META)
    with Launches() as cost:
        there = to_device(META, *MIXED, near)
    assert (cost.launches, cost.waits) == (1, [])
    assert [(x.device, x.dtype, x.shape) for x in there[:-1]] == [(META, x.dtype, x.shape) for x in MIXED]
    assert there[-1] is near
    assert all(got is wanted for got, wanted in zip(to_device(torch.device("cpu"), *MIXED), MIXED, strict=True))


def images() -> Tensor:
    return torch.randint(0, 256, (6, 4, 5, 3), generator=stream(0, "test.transfer")).to(torch.uint8)


def brighter(some: Tensor, amount: Tensor) -> Tensor:
    return (some.long() + amount.view(-1, 1, 1, 1)).clamp(max=255).to(torch.uint8)


@pytest.mark.parametrize("chosen", [[], [3], [0, 2, 5], [0, 1, 2, 3, 4, 5]])
def test_only_chosen_images_are_computed_where_the_host_knows_them(chosen: list[int]) -> None:
    batch, amount, seen = images(), torch.arange(6) * 10 + 1, list[int]()

    def change(some: Tensor, more: Tensor) -> Tensor:
        seen.extend(((more - 1) // 10).tolist())
        return brighter(some, more)

    which = torch.zeros(6, dtype=torch.bool).index_fill_(0, torch.tensor(chosen, dtype=torch.int64), True)
    got = change_where(batch, which, (amount,), change)
    assert seen == chosen
    assert torch.equal(got, torch.where(which.view(-1, 1, 1, 1), brighter(batch, amount), batch))
    assert torch.equal(batch, images())


def test_where_the_device_alone_knows_all_are_computed_and_nobody_waits() -> None:
    batch, counted = images().to(META), list[int]()

    def change(some: Tensor, amount: Tensor) -> Tensor:
        counted.append(len(some))
        return brighter(some, amount)

    which, amount = torch.empty(6, dtype=torch.bool, device=META), torch.arange(6, device=META)
    with Launches() as cost:
        got = change_where(batch, which, (amount,), change)
    assert (got.shape, counted, cost.waits) == (batch.shape, [6], [])


def test_numbers_are_where_they_are_wanted_and_beside_the_ids() -> None:
    ids, copies = torch.arange(9), torch.arange(9) % 2
    here, there = SampleRandom(1, 2, ids, copies), SampleRandom(1, 2, ids, copies, META)
    with Launches() as cost:
        assert there("x", 3).is_meta
    assert (cost.launches, cost.waits) == (1, [])
    assert torch.equal(there.beside_ids("x", 3), here("x", 3))
    assert SampleRandom(1, 2, ids.to(META), copies.to(META)).beside_ids("x", 3).is_meta
