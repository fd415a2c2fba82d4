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


def check_batch(name: str, inputs: Tensor, targets: Tensor, classes: int | None) -> None:
    """Raise ValueError unless inputs are (n, c, h, w) and targets (n,) ids below `classes` or (n, classes) weights.

    The ids' range is checked on the CPU only: on a GPU the host would have to wait for it.
    """
    if inputs.ndim != 4:
        raise ValueError(f"{name} needs inputs of shape (n, c, h, w), got {tuple(inputs.shape)}")
    if targets.ndim not in (1, 2) or len(targets) != len(inputs):
        raise ValueError(
            f"{name} needs targets (n,) or (n, classes) for {len(inputs)} inputs, got {tuple(targets.shape)}"
        )
    if targets.ndim == 1 and classes is None:
        raise ValueError(f"{name} needs num_classes to turn class ids into soft targets")
    if targets.ndim == 1 and targets.device.type == "cpu" and len(targets) and classes is not None:
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= classes:
            raise ValueError(f"{name} needs class ids from 0 to {classes - 1}, got {low} to {high}")


def soft(targets: Tensor, classes: int, inputs: Tensor) -> Tensor:
    """Class ids (n,) to weights (n, classes), float32 unless the inputs are float64; weights pass through."""
    dtype = torch.float64 if inputs.dtype == torch.float64 else torch.float32
    return F.one_hot(targets, classes).to(dtype) if targets.ndim == 1 else targets
