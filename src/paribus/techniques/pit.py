"""PiT: a vision transformer whose tokens get fewer and wider from stage to stage, as in a convolutional network.

Heo, Yun, Han, Chun, Choe & Oh, "Rethinking Spatial Dimensions of Vision Transformers", ICCV 2021, arXiv 2103.16302.

    maps (c, h, w) → convolution 3×3, stride 2, c groups → (2c, ⌈h/2⌉, ⌈w/2⌉)        class tokens (c) → Linear → (2c)

What it changes   pooling between the same stages of the same blocks; heads double with the width, so head dim stays.
                  The published network also has another stem, of overlapping patches (stride = half a patch), which
                  makes about four times the tokens. Three overlays tell the two apart:
                      technique=pit           stem and pooling: the paper's network
                      technique=pit_stem      the stem alone, constant width
                      technique=pit_pooling   pooling alone, on patches that do not overlap
                  pit against pit_stem is the effect of pooling where the paper uses it; pit_pooling against the plain
                  ViT is its effect on few tokens; pit_stem against the plain ViT is the effect of the stem.
Hyperparameters   none of its own; the network's size. `VARIANTS` has the published ones, all with an MLP ratio of 4.
Matched cost      each arm costs as many MACs as the plain ViT of its recipe, within 1 %. Pooling lets a network be
                  wider at its end, the stem's tokens make it narrower at its start. models/vit_matching.py has the rule
                  and the run prints what it found. Parameters are not matched: pooled networks have more.
Initialisation    the authors leave linear layers to PyTorch, DeiT uses σ = 0.02; between two arms that would be a
                  second difference. All overlays follow the recipe's model.init. `pit` has the authors' by default.
As the authors    no padding in the stem; the position map is added before the class tokens join and these get none;
                  no norm between stages; LayerNorm (ε = 1e-6) and classifiers on class tokens only; stochastic depth of
                  rate·i / blocks (timm ends at the rate itself: drop_path_rule=timm).
Deviations        the position map can be resized to another grid, and images may be rectangular. No attention dropout,
                  no gradient checkpointing. Patch tokens are not normalised at the end, so there is no average pooling.
Recipe            DeiT's with AdamP for AdamW, 300 epochs; its code was never released. The reported gains are largest
                  under weak augmentation: PiT-Ti, -S, -B are 2.6, 4.6, 6.8 points above DeiT's networks on ImageNet
                  with flips and crops alone, 0.8, 1.1, 0.2 with all of DeiT's recipe.
Cost              pooling itself is under 1 % of the MACs. Wall time is not matched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.protocols import Spec
from paribus.models.vit import DropPathRule, Init, Shape, VisionTransformer, drop_path_rates
from paribus.models.vit_matching import Size

Variant = Literal["ti", "xs", "s", "b"]

# the published sizes: patch, depths, heads of the first stage, head dim
VARIANTS: dict[Variant, tuple[int, tuple[int, ...], int, int]] = {
    "ti": (16, (2, 6, 4), 2, 32),
    "xs": (16, (2, 6, 4), 2, 48),
    "s": (16, (2, 6, 4), 3, 48),
    "b": (14, (3, 6, 4), 4, 64),
}


def pool(
    maps: Tensor, tokens: Tensor, weight: Tensor, bias: Tensor, token_weight: Tensor, token_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The pooling layer. maps (n, c, h, w) to (n, 2c, ⌈h/2⌉, ⌈w/2⌉), tokens (n, k, c) to (n, k, 2c).

    weight (2c, 1, 3, 3): channels 2i and 2i + 1 of the result look at channel i alone. token_weight (2c, c).
    """
    maps = F.conv2d(maps, weight, bias, stride=2, padding=1, groups=maps.shape[1])
    return maps, F.linear(tokens, token_weight, token_bias)


class PoolingLayer(nn.Module):
    """`pool` with its weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, groups=width)
        self.fc = nn.Linear(width, 2 * width)

    def forward(self, maps: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        assert self.conv.bias is not None
        return pool(maps, tokens, self.conv.weight, self.conv.bias, self.fc.weight, self.fc.bias)


@schema
class Pooling:
    """Fills the pooling slot of a ViT. Nothing to choose."""

    @property
    def growth(self) -> int:
        return 2

    def layer(self, width: int) -> nn.Module:
        return PoolingLayer(width)


@schema
class OverlappingStem:
    """Fills the stem slot of a ViT: patches that overlap by half, as 16 pixels every 8 and 14 every 7 in the paper."""

    def stride(self, patch: int) -> int:
        if patch % 2:
            raise ValueError(f"patch is {patch}; PiT's stem moves by half a patch, so it must be even")
        return patch // 2


def pit(
    variant: Variant,
    image_size: int | tuple[int, int] = 224,
    num_classes: int = 1000,
    distilled: bool = False,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path: float = 0.0,
    drop_path_rule: DropPathRule = "authors",
    init: Init = "authors",
) -> VisionTransformer:
    """The published networks, for any training loop.

    image_size: pixels a side, or (height, width). distilled: a second class token with its own classifier, to be
    taught by another network; training then returns both logits, evaluation their mean.
    drop_rate, drop_path: 0–1; see models/vit.py. Weights come from torch's global generator.

    >>> pit("ti", image_size=64, num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    if variant not in VARIANTS:
        raise ValueError(f"PiT has no variant {variant!r}; there are {', '.join(VARIANTS)}")
    patch, depths, heads, head_dim = VARIANTS[variant]
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    shape = Shape(
        patch=patch,
        stride=OverlappingStem().stride(patch),
        depths=depths,
        first=Size(heads, head_dim, 4 * heads * head_dim),
        tokens=2 if distilled else 1,
        drop_rate=drop_rate,
        drop_path=drop_path_rates(drop_path, sum(depths), drop_path_rule),
    )
    return VisionTransformer(Spec(num_classes, in_chans, height, width), shape, Pooling(), init)


@schema
class PiT:
    """The published networks as a model of their own. The distilled ones need an objective with a teacher; `pit`
    makes them."""

    variant: Variant = "ti"
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path_rule: DropPathRule = "authors"
    init: Init = "authors"

    def __call__(self, spec: Spec) -> nn.Module:
        return pit(
            self.variant,
            (spec.height, spec.width),
            spec.classes,
            in_chans=spec.channels,
            drop_rate=self.drop_rate,
            drop_path=self.drop_path,
            drop_path_rule=self.drop_path_rule,
            init=self.init,
        )


# timm's names to ours, tried in order. The authors and timm up to 0.4 count pools from the stage before, timm from the
# stage after.
_RENAMES: tuple[tuple[str, str], ...] = (
    (r"patch_embed\.conv\.(\w+)", r"stem.\1"),
    (r"pos_embed", "position_map"),
    (r"cls_token", "class_tokens"),
    (r"pools\.(\d+)\.(conv|fc)\.(\w+)", r"pools.\1.\2.\3"),
    (r"transformers\.(\d+)\.(blocks\..+)", r"stages.\1.\2"),
    (r"norm\.(\w+)", r"norm.\1"),
    (r"head\.(\w+)", r"classifiers.0.\1"),
    (r"head_dist\.(\w+)", r"classifiers.1.\1"),
)


def _our_name(name: str) -> str | None:
    if later := re.fullmatch(r"transformers\.([1-9]\d*)\.pool\.(.+)", name):
        name = f"pools.{int(later[1]) - 1}.{later[2]}"
    return next((re.sub(theirs, ours, name) for theirs, ours in _RENAMES if re.fullmatch(theirs, name)), None)


def load_timm_pit(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Copy the weights of timm's pit_* or of the authors' checkpoints into a network made by `pit`.

    A position map of another grid is resized (bicubic, antialiased, as timm does for its ViTs). Raises ValueError, and
    leaves the model as it was, if anything is missing, left over or of another shape.
    """
    wanted = model.state_dict()
    found = {_our_name(name) or name: value for name, value in state_dict.items()}
    if "position_map" in wanted and "position_map" in found:
        found["position_map"] = resized(found["position_map"], wanted["position_map"].shape[2:])
    problems = [f"missing {name}" for name in wanted if name not in found]
    problems += [f"left over {name}" for name in found if name not in wanted]
    problems += [
        f"{name} is {tuple(found[name].shape)}, should be {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(
            f"these weights do not fit: {'; '.join(problems[:4])}{more}; make the model with the variant, num_classes, "
            "in_chans and distilled of the weights"
        )
    model.load_state_dict(found)


def resized(position_map: Tensor, grid: torch.Size) -> Tensor:
    """(1, c, h, w) to (1, c, *grid); untouched where the grid is the same."""
    if position_map.ndim != 4 or position_map.shape[2:] == grid:
        return position_map
    return F.interpolate(position_map.float(), list(grid), mode="bicubic", antialias=True).to(position_map.dtype)
