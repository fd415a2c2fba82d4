"""The last layer of a network, and how it is replaced."""

from torch import Tensor, nn


def classifier_like(like: Tensor, features: int, classes: int) -> nn.Module:
    """A linear layer on the device and in the precision of `like`; the identity for 0 classes, as in timm."""
    return nn.Linear(features, classes, device=like.device, dtype=like.dtype) if classes else nn.Identity()
