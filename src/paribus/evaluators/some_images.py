"""A part of a split, the same for every network and any number of processes, where all of it would take too long."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from paribus.core.batch import Batch, select_facts
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, Splits


def check_limit(name: str, limit: int | None, splits: Sequence[str], context: EvaluationContext) -> None:
    """Raises ConfigError for a limit on a split whose number of images is not known. name: of the evaluator."""
    if limit and (unknown := [split for split in splits if split not in context.sizes]):
        raise ConfigError(
            f"evaluators.{name}.limit: found {limit}; how many images {unknown[0]} has is not known; limit=null takes "
            "all"
        )


def choose_evenly(
    splits: Splits, split: str, batch_size: int, limit: int | None, context: EvaluationContext
) -> Iterator[Batch]:
    """This rank's batches with at most `limit` images of the whole split in all, evenly spaced; None: all. A batch may
    be empty."""
    if limit is None:
        yield from splits[split](batch_size)
        return
    n, place = context.sizes[split], context.place
    size = min(limit, n)
    chosen = torch.arange(size) * n // max(size, 1)
    start = n * place.rank // place.world
    for batch in splits[split](batch_size):
        here = chosen[(chosen >= start) & (chosen < start + len(batch))] - start
        start += len(batch)
        there = here.to(batch.inputs.device)
        yield replace(
            batch,
            inputs=batch.inputs[there],
            targets=batch.targets[there],
            ids=batch.ids[there],
            positions=batch.positions[there],
            size=len(here),
            also=select_facts(batch.also, there),
        )
