"""What an evaluator is told, for tests that evaluate without a data set."""

import torch

from paribus.core.evaluation import EvaluationContext
from paribus.core.protocols import DeviceContext, Spec


def plain_context(classes: int, channels: int = 3, side: int = 4, device: str = "cpu") -> EvaluationContext:
    """Of images whose inputs are their pixels."""
    place = DeviceContext(torch.device(device))
    return EvaluationContext(Spec(classes, channels, side, side), place, (0.0,) * channels, (1.0,) * channels)
