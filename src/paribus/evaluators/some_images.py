"""A part of a split, the same for every network and any number of processes, where all of it would take too long, and
pairs of its images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from paribus.core.batch import Batch, select_facts
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, Splits


def check_limit(
    name: str, limit: int | None, splits: Sequence[str], context: EvaluationContext, *, always: bool = False
) -> None:
    """Raises ConfigError for a limit on a split whose number of images is not known. name: of the evaluator. always: it
    cannot do without a limit."""
    if limit and (unknown := [split for split in splits if split not in context.sizes]):
        instead = "name another split" if always else "limit=null takes all"
        raise ConfigError(
            f"evaluators.{name}.limit: found {limit}; how many images {unknown[0]} has is not known; {instead}"
        )


def choose_evenly(
    splits: Splits, split: str, batch_size: int, limit: int | None, context: EvaluationContext
) -> Iterator[Batch]:
    """This rank's batches with at most `limit` images of the whole split in all, evenly spaced; None: all. A batch may
    be empty. A chosen image that does not decode is missing; no other takes its place."""
    if limit is None:
        yield from splits[split](batch_size)
        return
    n, place = context.sizes[split], context.place
    size = min(limit, n)
    chosen = torch.arange(size) * n // max(size, 1)
    wanted = chosen - n * place.rank // place.world
    start = 0
    for batch in splits[split](batch_size):
        # by their places in the split, where some of its images may not decode: else the choice would hang on the ranks
        places = batch.known[1] if batch.known else torch.arange(start, start + len(batch))
        start += len(batch)
        here = torch.isin(places, wanted).nonzero()[:, 0]
        there = here.to(batch.inputs.device)
        yield replace(
            batch,
            inputs=batch.inputs[there],
            targets=batch.targets[there],
            ids=batch.ids[there],
            positions=batch.positions[there],
            size=len(here),
            known=None,
            also=select_facts(batch.also, there),
        )


def gather_by_id(parts: Iterable[tuple[Tensor, ...]], gather: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    """Columns of all ranks' batches, as they are on every rank, sorted by the last of them, the ids. gather: of the
    context."""
    columns = [gather(torch.cat(part)) for part in zip(*parts, strict=True)]
    by_id = columns[-1].argsort()
    return tuple(column[by_id] for column in columns)


def choose_partners(targets: Tensor, drawn: Tensor, *, same_class: bool) -> Tensor:
    """(n,) int64: the position of each image's partner, uniformly among the others of its class, or among those of
    other classes; −1 where there are none. targets: (n,). drawn: (n,) in [0, 1)."""
    by_class = targets.argsort(stable=True)
    ordered = targets[by_class]
    first, after = (torch.searchsorted(ordered, targets, right=right) for right in (False, True))
    own = after - first
    if same_class:
        choices = own - 1
        place = first + (drawn.double() * choices).long()
        passed, width = by_class.argsort(), torch.ones_like(own)  # itself is passed over
    else:
        choices = len(targets) - own
        place = (drawn.double() * choices).long()
        passed, width = first, own  # its own class stands in between, and is passed over
    place = torch.where(place < passed, place, place + width)
    return torch.where(choices > 0, by_class[place.clamp(max=len(targets) - 1)], -1)
