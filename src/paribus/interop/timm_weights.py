"""Weights between timm's networks and ours, both ways: one pair of names for every network that has a counterpart."""

import re
from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from paribus.models.inverted import InvertedNet
from paribus.models.vit import VisionTransformer

# Our names to timm's, every rule in turn. timm calls ReXNet's head convolution one more block.
_REXNET = (
    (r"^head\.", "features.{blocks}."),
    (r"^classifier\.", "head.fc."),
    (r"^blocks\.", "features."),
    (r"\.body\.expand\.", ".conv_exp."),
    (r"\.body\.depthwise\.", ".conv_dw."),
    (r"\.body\.excite\.squeeze\.", ".se.fc1."),
    (r"\.body\.excite\.norm\.", ".se.bn."),
    (r"\.body\.excite\.excite\.", ".se.fc2."),
    (r"\.body\.project\.", ".conv_pwl."),
    (r"\.norm\.", ".bn."),
)
_PIT = (
    (r"^stem\.", "patch_embed.conv."),
    (r"^position_map$", "pos_embed"),
    (r"^class_tokens$", "cls_token"),
    (r"^stages\.", "transformers."),
    (r"^classifiers\.0\.", "head."),
    (r"^classifiers\.1\.", "head_dist."),
)


def load_timm_weights(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Copy timm's weights into a network made by `paribus.rexnet` or `paribus.pit`.

    Takes timm's rexnet_* and, into a network of divisor 8 or 16, rexnetr_*; of PiT the old and the new layout of keys
    and the authors' checkpoints. PiT's position map is resized if the grid differs (see `resize_position_map`).
    Raises ValueError, and leaves the model as it was, if anything is missing, left over or of another shape.

    >>> import timm, paribus
    >>> net = paribus.pit("ti", num_classes=10)
    >>> paribus.load_timm_weights(net, timm.create_model("pit_ti_224", num_classes=10).state_dict())
    """
    own, names = model.state_dict(), list_timm_names(model)
    found = _to_current_timm(own, state_dict)
    wrong = [f"{timm_name} is missing" for timm_name in names.values() if timm_name not in found]
    wrong += [f"{timm_name} has no place" for timm_name in found if timm_name not in set(names.values())]
    for name, timm_name in names.items():
        if timm_name in found and found[timm_name].shape != own[name].shape:
            wrong.append(f"{timm_name} is {tuple(found[timm_name].shape)}, should be {tuple(own[name].shape)}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"these weights do not fit: {'; '.join(wrong[:3])}{more}; make the model with the weights' own "
            "width and divisor (ReXNet) or variant and distilled (PiT), num_classes and in_chans"
        )
    model.load_state_dict({name: found[timm_name] for name, timm_name in names.items()})


def from_timm_state_dict(model: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's weights under our names, a position map of another grid resized; what has no place keeps its name. Raises
    ValueError for a network that timm does not have."""
    own_names = {timm_name: name for name, timm_name in list_timm_names(model).items()}
    return {own_names.get(n, n): value for n, value in _to_current_timm(model.state_dict(), state_dict).items()}


def list_timm_names(model: nn.Module) -> dict[str, str]:
    """Our name of each tensor -> timm's. Raises ValueError for a network that timm does not have."""
    to_timm_name = _name_converter(model)
    return {name: to_timm_name(name) for name in model.state_dict()}


def to_timm_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a network made by `paribus.rexnet` or `paribus.pit` under timm's names: load_state_dict of timm's
    network of the same size, classes and image size takes them as they are. The tensors are the model's, not copies.

    Raises ValueError for a network that timm does not have.
    """
    names = list_timm_names(model)
    return {names[name]: value for name, value in model.state_dict().items()}


def _to_current_timm(own: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's weights in its current layout of keys, a position map at the grid of ours."""
    found = {_to_new_layout(name): value for name, value in state_dict.items()}
    if "position_map" in own and "pos_embed" in found:
        found["pos_embed"] = resize_position_map(found["pos_embed"], own["position_map"].shape[2:])
    return found


def resize_position_map(position_map: Tensor, grid: tuple[int, ...]) -> Tensor:
    """(1, c, h, w) to (1, c, *grid), bicubic and antialiased; the same tensor where the grid is the same.

    Neither PiT's authors nor timm do it for PiT; this is what timm does for its other ViTs. Bicubic keeps smooth maps
    closer than bilinear does, and antialiasing keeps their mean when the grid shrinks.
    """
    if position_map.ndim != 4 or tuple(position_map.shape[2:]) == tuple(grid):
        return position_map
    return F.interpolate(position_map.float(), list(grid), mode="bicubic", antialias=True).to(position_map.dtype)


def _name_converter(model: nn.Module) -> Callable[[str], str]:
    """From our names to timm's."""
    if isinstance(model, InvertedNet) and isinstance(model.neck, nn.Identity):
        return lambda name: _apply_rules(name, _REXNET).format(blocks=len(model.blocks))
    if isinstance(model, VisionTransformer) and next(model.pools.parameters(), None) is not None:
        return lambda name: _apply_rules(_move_pool_to_next_stage(name), _PIT)
    raise ValueError(
        "timm's weights go with networks made by paribus.rexnet (but not lite) or paribus.pit; this "
        f"{type(model).__name__} has no counterpart there"
    )


def _apply_rules(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _move_pool_to_next_stage(name: str) -> str:
    """We index a pool by the stage before it, timm by the stage after it."""
    return re.sub(r"^pools\.(\d+)\.", lambda found: f"transformers.{int(found[1]) + 1}.pool.", name)


# The authors, and timm up to 0.4, index them as we do; no network of ours has a name of timm's that begins like this.
_to_new_layout = _move_pool_to_next_stage
