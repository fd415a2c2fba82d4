"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): a part's activations are recomputed in the backward pass
instead of kept, which costs about a third more time and changes no number."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.utils.checkpoint import checkpoint


def run_checkpointed(part: nn.Module, *inputs: Any) -> Any:
    """part(*inputs), with only the inputs kept for the backward pass.

    The second pass draws the same dropout as the first: torch keeps the generators' states and puts them back. It also
    leaves BatchNorm's running statistics alone, which would otherwise count each batch twice.
    """
    if not torch.is_grad_enabled():
        return part(*inputs)
    if torch.compiler.is_compiling():  # a compiled graph writes buffers once, at its end, and refuses our contexts
        return checkpoint(part, *inputs, use_reentrant=False)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_untouched(part)

    return checkpoint(part, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_untouched(part: nn.Module) -> Iterator[None]:
    """At momentum 0 a running statistic becomes 1 times itself. Hiding the statistics instead would save fewer tensors
    in the second pass than in the first, which torch refuses."""
    norms = [m for m in part.modules() if isinstance(m, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, seen) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, seen
