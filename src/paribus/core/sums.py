"""Exact means: numerators and counts that add up over batches and ranks, divided once at the end.

Counts and numbers of correct answers are integers, so an accuracy does not depend on batch size or world size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paribus.core.renamed import old_names


@dataclass(frozen=True)
class Sums:
    """For each metric a scalar tensor (int64 or float64) to be divided by that metric's int64 count."""

    totals: Mapping[str, Tensor] = field(default_factory=dict)
    counts: Mapping[str, Tensor] = field(default_factory=dict)

    def __add__(self, other: Sums) -> Sums:
        return Sums(_add(self.totals, other.totals), _add(self.counts, other.counts))

    def all_reduce(self, all_reduce: Callable[[Tensor], Tensor]) -> Sums:
        """Summed over processes, as integers where they are integers."""
        return Sums(
            {name: all_reduce(value) for name, value in sorted(self.totals.items())},
            {name: all_reduce(value) for name, value in sorted(self.counts.items())},
        )

    def with_suffix(self, suffix: str) -> Sums:
        """The same sums under longer names."""
        return Sums(
            {name + suffix: value for name, value in self.totals.items()},
            {name + suffix: value for name, value in self.counts.items()},
        )

    def means(self) -> dict[str, float]:
        """One number a metric. This is where the host waits for the device, once."""
        names = list(self.totals)
        host = _copy_to_host([self.totals[name] for name in names] + [self.counts[name] for name in names])
        return {name: float(total / count) for name, total, count in zip(names, host, host[len(names) :], strict=False)}


def metric_sums(name: str, total: Tensor, count: int) -> Sums:
    """The sums of one metric over one batch."""
    # `full` makes the count on the device; torch.tensor would make it on the host and wait for its copy
    return Sums({name: total}, {name: torch.full((), count, dtype=torch.int64, device=total.device)})


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
