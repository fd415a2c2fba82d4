"""How long the weights of convolutions are, and how far a step turns them: AdamP's argument, as two measured curves.

A convolution before normalisation counts by its direction alone, so what a step Δw does is ‖Δw‖ / ‖w‖, the effective
step size of Heo et al. 2021 (AdamP, ICLR, §2). Momentum makes ‖w‖ grow, which shrinks that ratio sooner than the
schedule does; projections are there to prevent it.
"""

# torch's operations on lists have no public names; on a GPU they take one launch, not one a tensor
# pyright: reportPrivateImportUsage=false

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from paribus.core.errors import ConfigError


def find_convolution_weights(model: nn.Module) -> list[nn.Parameter]:
    """The trained weights of all convolutions, which have three axes or more. Raises ConfigError if there are none."""
    found = [p for p in model.parameters() if p.requires_grad and p.ndim > 2]
    if not found:
        raise ConfigError("method: found lengths, which are those of convolutions' weights; this network has none")
    return found


def copy_weights(weights: Sequence[nn.Parameter]) -> list[Tensor]:
    """As they are before a step. × 1 is the copy: torch 2.11 has no `_foreach_clone`."""
    return list(torch._foreach_mul([weight.detach() for weight in weights], 1.0)) if weights else []


@torch.no_grad()
def measure_lengths(before: Sequence[Tensor], after: Sequence[Tensor]) -> dict[str, Tensor]:
    """weights/norm: mean ‖w‖ over the tensors, before the step. weights/step: mean ‖Δw‖ / ‖w‖. 0-dimensional, on
    the device of the weights; does not wait for it."""
    changes = torch._foreach_sub(list(after), list(before))
    norms, steps = (torch.stack(torch._foreach_norm(tensors)) for tensors in (list(before), changes))
    return {"weights/norm": norms.mean(), "weights/step": (steps / norms).mean()}
