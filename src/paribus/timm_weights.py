"""timm's weights into our networks: one name for every network that has a counterpart there."""

from collections.abc import Mapping

from torch import Tensor, nn

from paribus.models.inverted import InvertedNet
from paribus.models.vit import VisionTransformer


def load_timm_weights(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Copy timm's weights into a network made by `paribus.rexnet` or `paribus.pit`.

    Takes the old and the new key layout of timm's PiT and the authors' own; resizes PiT's position map if the grid
    differs. Raises ValueError, and leaves the model as it was, if the weights are of another network.

    >>> import timm, paribus
    >>> net = paribus.pit("ti", num_classes=10)
    >>> paribus.load_timm_weights(net, timm.create_model("pit_ti_224", num_classes=10).state_dict())
    """
    if isinstance(model, InvertedNet):
        from paribus.techniques.rexnet import load_timm_rexnet

        load_timm_rexnet(model, state_dict)
    elif isinstance(model, VisionTransformer):
        from paribus.techniques.pit import load_timm_pit

        load_timm_pit(model, state_dict)
    else:
        raise ValueError(
            f"load_timm_weights needs a network made by paribus.rexnet or paribus.pit, got {type(model).__name__}"
        )
