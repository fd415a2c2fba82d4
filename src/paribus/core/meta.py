"""Networks on the meta device: the same modules without values, to get shapes and costs for free."""

import copy

from torch import nn


def to_meta(model: nn.Module) -> nn.Module:
    """A copy on the meta device, in the model's mode, whose weights take no gradient; the model stays as it is.

    Tensors go to the meta device one by one instead of being copied with the model first.
    """
    weights = {id(p): nn.Parameter(p.to("meta"), requires_grad=False) for p in model.parameters()}
    buffers = {id(b): b.to("meta") for b in model.buffers()}
    return copy.deepcopy(model, {**weights, **buffers})
