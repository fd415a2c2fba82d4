"""Networks on the meta device: the same modules without values, to get shapes and costs for free."""

import copy

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class _AnyBatchNorm(_BatchNorm):
    """BatchNorm of any number of axes, as SyncBatchNorm takes them."""

    def _check_input_dim(self, input: object) -> None:
        pass


def to_meta(model: nn.Module) -> nn.Module:
    """A copy on the meta device, in the model's mode, whose weights take no gradient; the model stays as it is.

    Tensors go to the meta device one by one instead of being copied with the model first. SyncBatchNorm becomes a
    BatchNorm: it gives the same shapes, and in training it would talk to the other processes, and refuse meta tensors.
    """
    weights = {id(p): nn.Parameter(p.to("meta"), requires_grad=False) for p in model.parameters()}
    buffers = {id(b): b.to("meta") for b in model.buffers()}
    # what is in the memo is taken instead of copied, so each module stands where the one it replaces stood
    norms = {id(m): _without_sync(m) for m in model.modules() if isinstance(m, nn.SyncBatchNorm)}
    return copy.deepcopy(model, {**weights, **buffers, **norms})


def _without_sync(norm: nn.SyncBatchNorm) -> nn.Module:
    made = _AnyBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta"
    )
    return made.train(norm.training).requires_grad_(False)
