"""A part of a split: the same for any number of processes, also where images do not decode; and impossible limits."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from helpers.evaluations import plain_context
from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.evaluators.backgrounds import ExchangedBackgrounds
from paribus.evaluators.in_between import InBetween
from paribus.evaluators.mechanism import Mechanism
from paribus.evaluators.occlusion import Occlusion
from paribus.evaluators.some_images import choose_evenly
from paribus.methods.evaluated import PlainNetwork

N, DAMAGED = 10, {1, 8}


def split_of(rank: int, world: int, tells: bool) -> Any:
    """A rank's share of N images, of which the damaged ones are skipped. tells: each batch knows its places."""
    first, last = N * rank // world, N * (rank + 1) // world

    def batches(size: int) -> Iterator[Batch]:
        for part in torch.arange(last - first).split(size):
            rows = part[[row + first not in DAMAGED for row in part.tolist()]]
            ids = rows + first
            known = (rows, rows) if tells else None
            yield Batch(ids[:, None, None, None].float(), ids, ids, rows, len(ids), N, known=known)

    return batches


def chosen(world: int, size: int, tells: bool = True) -> list[int]:
    context = replace(plain_context(N), sizes={"val": N})
    found: list[int] = []
    for rank in range(world):
        here = replace(context, place=DeviceContext(torch.device("cpu"), rank=rank, world=world))
        for batch in choose_evenly({"val": split_of(rank, world, tells)}, "val", size, 5, here):
            assert batch.size == len(batch.ids) == len(batch.inputs)
            found += batch.ids.tolist()
    return found


@pytest.mark.parametrize("size", [1, 3, 10])
@pytest.mark.parametrize("world", [1, 2, 3, 5, 10])
def test_images_that_do_not_decode_leave_the_choice_as_it_is(world: int, size: int) -> None:
    assert chosen(world, size) == [0, 2, 4, 6]  # and 8, which is damaged


def test_negative_control_counting_what_comes_depends_on_the_ranks() -> None:
    assert chosen(1, 3, tells=False) != chosen(2, 3, tells=False)


@pytest.mark.parametrize("evaluator", [InBetween(), ExchangedBackgrounds(), Mechanism(), Occlusion(limit=5)])
def test_a_limit_of_an_unknown_whole_is_refused_before_training(evaluator: Any) -> None:
    method = PlainNetwork(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 4)))
    with pytest.raises(ConfigError, match="how many images val has is not known"):
        evaluator.check_method(method, plain_context(4))
    evaluator.check_method(method, replace(plain_context(4), sizes={"val": 9}))
