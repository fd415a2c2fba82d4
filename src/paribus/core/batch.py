"""What a step is given: images, targets, and which samples they are.

A batch is this process's part of the global batch. A transform that mixes samples gets the others, which may
be on another rank, from `peers`, and wraps its work in `apply`, so that a later transform's peers come out transformed
as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paribus.core.renamed import old_names

COPY_OFFSET = 2**40  # more than there are samples


def unique_sample_ids(ids: Tensor, copies: Tensor | None) -> Tensor:
    """The ids that key each sample's random draws: its index and which copy of it this is (None: one copy of each)."""
    return ids if copies is None else ids + copies * COPY_OFFSET


def select_facts(facts: Mapping[str, Tensor], where: Tensor | slice) -> dict[str, Tensor]:
    """Facts about samples, each (n, …), of those samples that are chosen."""
    return {name: values[where] for name, values in facts.items()}


# Facts that say where in the stored pixels something lies: the crop of a training batch would move it, so they are of
# evaluation batches alone.
PLACES_IN_PIXELS = ("box", "mask")


def drop_places(facts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The facts that hold of a sample however it is cropped, which training batches have too."""
    return {name: values for name, values in facts.items() if name not in PLACES_IN_PIXELS}


def list_known_facts(facts: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of those that are known of any sample: NaN stands for what is not."""
    return tuple(name for name, values in facts.items() if not (values.is_floating_point() and values.isnan().all()))


def find_largest(facts: Mapping[str, Tensor]) -> dict[str, int]:
    """The largest value of each fact in whole numbers, by name: what must fit into a table of groups or words."""
    return {name: int(values.max()) for name, values in facts.items() if is_whole(values) and values.numel()}


def is_whole(values: Tensor) -> bool:
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


@dataclass(frozen=True)
class Batch:
    """inputs (n, c, h, w) float; targets (n,) int64 class ids or (n, classes) weights that sum to 1; ids (n,) sample
    indices, to which the k-th further copy of a repeated sample adds k · COPY_OFFSET.

    positions: (n,) indices of these samples in the global batch of `size` samples, on the inputs' device. Of evaluation
    batches: in this rank's share of the split, in which samples that could not be decoded are counted as well.
    fetch: makes the samples at any positions of the same global batch, transformed as far as this batch is; None when
    all of it is on this rank. It takes positions on the CPU, for which the host need not wait, or on the device.
    known: `positions` and the same on the CPU, from who made this batch; read it by `host_positions`.
    also: further facts about the stored samples by name, each (n, …), on the inputs' device: a group, a bias, tokens of
    a caption. A transform leaves them as they are. Of evaluation batches "box", (n, 4): x1, y1, x2, y2 of an object's
    edges in pixels of the inputs, NaN where there is none (docs/data.md); and "mask", (n, h, w) bool, the pixels of the
    inputs that are the object's. Of training batches, where a transform asks for it (`ReadsCrop`), "crop", (n, 4) of
    the inputs' type: x1, y1, x2, y2 of the crop that was drawn, as shares of the stored image's width and height;
    padding may make them leave 0..1, and a horizontal flip is not in them.
    """

    inputs: Tensor
    targets: Tensor
    ids: Tensor
    positions: Tensor
    size: int
    classes: int
    fetch: Callable[[Tensor], Batch] | None = None
    known: tuple[Tensor, Tensor] | None = None
    also: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def host_positions(self) -> Tensor | None:
        """`positions` on the CPU, to `fetch` by; None if the host does not know them, since a transform has replaced
        them, and where nothing is fetched."""
        if self.fetch is None or self.known is None or self.known[0] is not self.positions:
            return None
        return self.known[1]

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def peers(self, positions: Tensor) -> Batch:
        """The samples at these positions of the global batch. positions: on the inputs' device; from `host_positions`
        on, on the CPU."""
        if self.fetch is not None:
            return self.fetch(positions)
        return replace(
            self,
            inputs=self.inputs[positions],
            targets=self.targets[positions],
            ids=self.ids[positions],
            positions=positions,
            also=select_facts(self.also, positions),
        )

    def apply(self, change: Callable[[Batch], Batch]) -> Batch:
        """Apply `change`, a pure function of a batch and the positions in it, here and to whatever is fetched later."""
        fetch = self.fetch
        if fetch is None:
            return change(self)
        # what is fetched fetches in its turn, for the next transform that mixes, and what comes then is changed as well
        return replace(change(self), fetch=lambda positions: fetch(positions).apply(change))

    def through(self, change: Callable[[Batch], Batch]) -> Batch:
        """Deprecated alias of `apply`, for one more release."""
        warnings.warn("Batch.through is now called apply", DeprecationWarning, stacklevel=2)
        return self.apply(change)

    def split(self, parts: int) -> Iterator[Batch]:
        """Equal consecutive parts, for gradient accumulation."""
        if parts == 1:  # views of all tensors would cost a small net's step 3 %
            yield self
            return
        size = len(self) // parts
        for start in range(0, len(self), size):
            here = slice(start, start + size)
            yield replace(
                self,
                inputs=self.inputs[here],
                targets=self.targets[here],
                ids=self.ids[here],
                positions=self.positions[here],
                also=select_facts(self.also, here),
            )


if not TYPE_CHECKING:
    __getattr__ = old_names(__name__, {"named": "unique_sample_ids", "COPY": "COPY_OFFSET"})
