"""Exact means: numerators and counts that add up over batches and ranks, divided once at the end.

Counts and numbers of correct answers are integers, so an accuracy does not depend on batch size or world size. What is
no mean of samples is derived from `tables`, added up like the sums, or from `samples`, gathered in the order of ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paribus.core.renamed import old_names

SampleParts = tuple[tuple[Tensor, Tensor], ...]  # (n,) ids with (n, ...) values, a pair for each batch


@dataclass(frozen=True)
class Sums:
    """For each metric a scalar tensor (int64 or float64) to be divided by that metric's int64 count.

    tables: further totals of any shape, int64 or float64, that are no metrics themselves. samples: values of single
    samples; once reduced, one pair of all ranks' samples, sorted by id, with as many rows on each rank.
    """

    totals: Mapping[str, Tensor] = field(default_factory=dict)
    counts: Mapping[str, Tensor] = field(default_factory=dict)
    tables: Mapping[str, Tensor] = field(default_factory=dict)
    samples: Mapping[str, SampleParts] = field(default_factory=dict)

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            _add(self.totals, other.totals),
            _add(self.counts, other.counts),
            _add(self.tables, other.tables),
            {**self.samples, **{k: self.samples.get(k, ()) + parts for k, parts in other.samples.items()}},
        )

    def all_reduce(
        self, all_reduce: Callable[[Tensor], Tensor], gather: Callable[[Tensor], Tensor] | None = None
    ) -> Sums:
        """Summed over processes, as integers where they are integers. gather: (n, …) of each process to (N, …) of all,
        in the order of ranks; None: there is one process."""
        return Sums(
            {name: all_reduce(value) for name, value in sorted(self.totals.items())},
            {name: all_reduce(value) for name, value in sorted(self.counts.items())},
            {name: all_reduce(value) for name, value in sorted(self.tables.items())},
            {name: _in_order(parts, gather or _same) for name, parts in sorted(self.samples.items())},
        )

    def gathered(self, name: str) -> Tensor:
        """The values of the samples of this name, (N, …) in the order of their ids, of reduced sums."""
        ((_, values),) = self.samples[name]
        return values

    def with_suffix(self, suffix: str) -> Sums:
        """The same sums under longer names."""
        return Sums(
            {name + suffix: value for name, value in self.totals.items()},
            {name + suffix: value for name, value in self.counts.items()},
            {name + suffix: value for name, value in self.tables.items()},
            {name + suffix: parts for name, parts in self.samples.items()},
        )

    def means(self) -> dict[str, float]:
        """One number a metric, without those of no sample at all. This is where the host waits for the device, once."""
        names = list(self.totals)
        host = _copy_to_host([self.totals[name] for name in names] + [self.counts[name] for name in names])
        pairs = zip(names, host, host[len(names) :], strict=False)
        return {name: float(total / count) for name, total, count in pairs if count}


def metric_sums(name: str, total: Tensor, count: int) -> Sums:
    """The sums of one metric over one batch."""
    # `full` makes the count on the device; torch.tensor would make it on the host and wait for its copy
    return Sums({name: total}, {name: torch.full((), count, dtype=torch.int64, device=total.device)})


def gather_samples(name: str, ids: Tensor, values: Tensor) -> Sums:
    """Values of single samples over one batch. ids: (n,) int64, of which no two are equal in a split. values: (n, …),
    of as many rows and the same other axes in each batch."""
    return Sums(samples={name: ((ids, values),)})


def table_sums(name: str, table: Tensor) -> Sums:
    """A table over one batch, to which those of other batches and ranks are added."""
    return Sums(tables={name: table})


def _in_order(parts: SampleParts, gather: Callable[[Tensor], Tensor]) -> SampleParts:
    ids, values = (gather(torch.cat([part[i] for part in parts])) for i in (0, 1))
    order = ids.argsort()
    return ((ids[order], values[order]),)


def _same(value: Tensor) -> Tensor:
    return value


def _copy_to_host(scalars: list[Tensor]) -> list[int | float]:
    """Scalar tensors as numbers, in one copy: integers as int64, others as the bits of a float64."""
    if not scalars:
        return []
    device = scalars[0].device
    bits = [(x.double().view(torch.int64) if x.is_floating_point() else x.long()).to(device) for x in scalars]
    words = torch.stack(bits).cpu()
    return [
        (word.view(torch.float64) if x.is_floating_point() else word).item()
        for x, word in zip(scalars, words, strict=True)
    ]


def _add(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> dict[str, Tensor]:
    out = dict(left)
    for name, value in right.items():
        out[name] = out[name] + value if name in out else value
    return out


if not TYPE_CHECKING:
    __getattr__ = old_names(__name__, {"mean_of": "metric_sums"})
