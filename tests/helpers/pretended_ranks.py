"""An evaluator in several pretended processes, which are threads that exchange tensors as processes do."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Barrier, Thread
from typing import Any

import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.evaluation import EvaluationContext, call_evaluator
from paribus.core.sums import Sums


def make_split(
    inputs: Tensor,
    targets: Tensor,
    ids: Tensor,
    classes: int,
    rank: int = 0,
    world: int = 1,
    boxes: Tensor | None = None,
):
    """A split's batches by their size: this rank's share, in the order given; an empty batch of an empty share."""
    first, last = (len(ids) * r // world for r in (rank, rank + 1))

    def batches(size: int):
        for here in torch.arange(first, last).split(size):
            also = {} if boxes is None else {"box": boxes[here]}
            yield Batch(inputs[here], targets[here], ids[here], ids[here], len(here), classes, also=also)

    return batches


def on_ranks(
    evaluator: Any, method: Any, split: Sequence[Tensor], context: EvaluationContext, world: int, name: str = "val"
) -> Sums:
    """The evaluator's reduced sums. split: inputs, targets and ids, and boxes if it needs some."""
    inputs, targets, ids, *boxes = split
    networks = [method, *(copy.deepcopy(method) for _ in range(world - 1))]  # a process has its own
    barrier, slots = Barrier(world), [torch.empty(0)] * world
    found: list[Any] = [None] * world

    def gather_of(rank: int) -> Callable[[Tensor], Tensor]:
        def gather(value: Tensor) -> Tensor:
            slots[rank] = value
            barrier.wait(30)
            everyone = torch.cat(slots)
            barrier.wait(30)
            return everyone

        return gather

    def work(rank: int) -> None:
        place = replace(context.place, rank=rank, world=world)
        share = make_split(inputs, targets, ids, context.spec.classes, rank, world, *boxes)
        here = replace(context, place=place, gather=gather_of(rank), sizes={name: len(ids)})
        try:
            found[rank] = call_evaluator(evaluator, networks[rank], {name: share}, here)
        except BaseException as error:
            found[rank] = error
            barrier.abort()

    threads = [Thread(target=work, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in (f for f in found if isinstance(f, BaseException)):
        raise error
    names = [[sorted(getattr(f, part)) for part in ("totals", "counts", "tables", "samples")] for f in found]
    assert all(one == names[0] for one in names), "ranks must reduce the same names, or they wait forever"
    return sum(found, Sums()).all_reduce(lambda value: value)
