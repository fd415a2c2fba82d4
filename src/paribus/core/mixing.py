"""What the techniques that mix or mask images share, so that none has to import another: a share from a Beta
distribution, boxes as masks, class ids as weights."""

import torch
import torch.nn.functional as F
from torch import Tensor


def beta(alpha: float, generator: torch.Generator) -> float:
    """One number from Beta(alpha, alpha), as the share of the first of two Gamma(alpha) numbers.

    In logarithms, with Gamma(a) = Gamma(a + 1) · U^(1/a): for a small alpha the Gammas themselves would underflow.
    """
    concentration = torch.full((2,), alpha + 1, dtype=torch.float64)
    # torch.distributions takes no generator; this is what its Gamma calls
    gammas = torch._standard_gamma(concentration, generator=generator)  # pyright: ignore[reportPrivateImportUsage]
    logs = gammas.log() + torch.rand(2, dtype=torch.float64, generator=generator).log() / alpha
    return float(torch.sigmoid(logs[0] - logs[1]))


def inside(box: Tensor, height: int, width: int) -> Tensor:
    """(n, 4) boxes (top, left, bottom, right; the last two are outside) to an (n, 1, height, width) mask, true
    inside."""
    top, left, bottom, right = box.unbind(1)
    y = torch.arange(height, device=box.device)
    x = torch.arange(width, device=box.device)
    in_rows = (y >= top[:, None]) & (y < bottom[:, None])
    in_columns = (x >= left[:, None]) & (x < right[:, None])
    return in_rows[:, None, :, None] & in_columns[:, None, None, :]


def soft(targets: Tensor, classes: int, inputs: Tensor) -> Tensor:
    """Class ids (n,) to weights (n, classes), float32 unless the inputs are float64; weights pass through."""
    dtype = torch.float64 if inputs.dtype == torch.float64 else torch.float32
    return F.one_hot(targets, classes).to(dtype) if targets.ndim == 1 else targets
