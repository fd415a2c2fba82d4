"""The class that a network's scores stand for, by the rule of accuracy: equal scores are the lower class's."""

import torch
from torch import Tensor


def predicted_classes(scores: Tensor) -> Tensor:
    """(n, classes) to (n,) int64. −1, which is no class, where a score is NaN."""
    return torch.where(scores.isnan().any(1), -1, scores.argmax(1))
