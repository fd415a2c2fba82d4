"""PiT: a vision transformer whose tokens get fewer and wider from stage to stage, as in a convolutional network.

Heo, Yun, Han, Chun, Choe & Oh, "Rethinking Spatial Dimensions of Vision Transformers", ICCV 2021, arXiv 2103.16302.

    maps (c, h, w) → convolution 3×3, stride 2, c groups → (2c, ⌈h/2⌉, ⌈w/2⌉)        class tokens (c) → Linear → (2c)

What it changes   pooling between the same stages of the same blocks; heads double with the width, so head dim stays.
                  The published network also has another stem, of overlapping patches (stride = half a patch), which
                  makes about four times the tokens. Three overlays separate the two:
                      technique=pit           stem and pooling: the paper's network
                      technique=pit_stem      the stem alone, constant width
                      technique=pit_pooling   pooling alone, on patches that do not overlap
                  pit against pit_stem is the effect of pooling where the paper uses it; pit_pooling against the plain
                  ViT is its effect on few tokens; pit_stem against the plain ViT is the effect of the stem. Two
                  controls are settings of the slot: +model.pooling.stride=1, the layer without its reduction, and
                  models/vit_pooling.py, a reduction without weights.
Hyperparameters   none of its own; the network's size. `VARIANTS` has the published ones, all with an MLP ratio of 4.
Matched cost      each arm costs as many MACs as the plain ViT of its recipe, within 1 %. Pooling lets a network be
                  wider at its end, the stem's tokens make it narrower at its start. models/vit_matching.py has the rule
                  and the run prints what it found. Parameters are not matched: pooled networks have more. With
                  model.match=parameters it is these that are, and MACs are not.
Initialisation    the authors leave linear layers to PyTorch, DeiT uses σ = 0.02; between two arms that would be a
                  second difference. All overlays follow the recipe's model.init. `pit` has the authors' by default.
As the authors    no padding in the stem; the position map is added before the class tokens join and these get none;
                  no norm between stages; LayerNorm (ε = 1e-6) and classifiers on class tokens only; stochastic depth of
                  rate·i / blocks (timm ends at the rate itself: drop_path_rule=timm); training of a distilled network
                  gives a pair of logits (timm: their mean). On an even grid the pooling sees a padded border at the
                  top and left only, on an odd grid all around: 27 → 14 → 7 cells have one of each.
Deviations        images of any size and shape; weights of another grid are loaded with their position map resized
                  (bicubic, antialiased, as timm does for its ViTs but not for PiT). Gradient checkpointing and
                  global_pool=avg (mean of the last maps, then LayerNorm, as timm's ViTs) are ours. No attention
                  dropout; one drop_rate for embedding and blocks, none before the classifier. Tensors without weight
                  decay: position map, class tokens, and all biases and norms, where the authors' code names only the
                  first two. Nothing here uses timm's layers, whose newer versions the authors' file does not run with.
Recipe            DeiT's with AdamP for AdamW, 300 epochs; its code was never released. The reported gains are largest
                  under weak augmentation: PiT-Ti, -S, -B are 2.6, 4.6, 6.8 points above DeiT's networks on ImageNet
                  with flips and crops alone, 0.8, 1.1, 0.2 with all of DeiT's recipe.
Cost              pooling itself is under 1 % of the MACs. Wall time is not matched. Checkpointing keeps 4 instead of 42
                  MiB an image of PiT-S at 224 pixels, and a step took 1.34 times as long on one CPU thread.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.protocols import Spec
from paribus.models.drop_path import DropPathRule, drop_path_rates
from paribus.models.vit import GlobalPool, Init, VisionTransformer, ViTArchitecture
from paribus.models.vit_matching import BlockSize

Variant = Literal["ti", "xs", "s", "b"]

# the published sizes: patch, depths, heads of the first stage, head dim
VARIANTS: dict[Variant, tuple[int, tuple[int, ...], int, int]] = {
    "ti": (16, (2, 6, 4), 2, 32),
    "xs": (16, (2, 6, 4), 2, 48),
    "s": (16, (2, 6, 4), 3, 48),
    "b": (14, (3, 6, 4), 4, 64),
}


def pool(
    maps: Tensor,
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor,
    token_weight: Tensor,
    token_bias: Tensor,
    stride: int = 2,
) -> tuple[Tensor, Tensor]:
    """The pooling layer. maps (n, c, h, w) to (n, 2c, ⌈h/stride⌉, ⌈w/stride⌉), tokens (n, k, c) to (n, k, 2c).

    weight (2c, 1, 3, 3): channels 2i and 2i + 1 of the result look at channel i alone. token_weight (2c, c).
    """
    maps = F.conv2d(maps, weight, bias, stride=stride, padding=1, groups=maps.shape[1])
    return maps, F.linear(tokens, token_weight, token_bias)


class PoolingLayer(nn.Module):
    """`pool` with its weights."""

    def __init__(self, width: int, stride: int = 2) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width, 2 * width, 3, stride=stride, padding=1, groups=width)
        self.fc = nn.Linear(width, 2 * width)

    def forward(self, maps: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        assert self.conv.bias is not None
        return pool(maps, tokens, self.conv.weight, self.conv.bias, self.fc.weight, self.fc.bias, self.stride)


@schema
class Pooling:
    """Fills the pooling slot of a ViT.

    stride: 2, as in the paper; 1 keeps the grid, so that the layer widens and mixes neighbours but does not pool. With
    that, and with models/vit_pooling.py, one sees which part of a gain is pooling's.
    """

    stride: Literal[1, 2] = 2

    @property
    def growth(self) -> int:
        return 2

    def layer(self, width: int) -> nn.Module:
        return PoolingLayer(width, self.stride)


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
    global_pool: GlobalPool = "token",
    checkpointing: bool = False,
) -> VisionTransformer:
    """The published networks, for any training loop.

    image_size: pixels a side, or (height, width). distilled: a second class token with its own classifier, for
    distillation from another network; training then returns both logits (`set_distilled_training` changes that),
    evaluation their mean. drop_rate, drop_path: 0–1, and the rule for it; see models/drop_path.py. global_pool "avg"
    classifies the mean of the patches instead of the class token. checkpointing: less memory for about a third more
    time, same gradients. Weights come from torch's global generator.

    >>> pit("ti", image_size=64, num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    if variant not in VARIANTS:
        raise ValueError(f"PiT has no variant {variant!r}; there are {', '.join(VARIANTS)}")
    patch, depths, heads, head_dim = VARIANTS[variant]
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    shape = ViTArchitecture(
        patch=patch,
        stride=OverlappingStem().stride(patch),
        depths=depths,
        first=BlockSize(heads, head_dim, 4 * heads * head_dim),
        tokens=2 if distilled else 1,
        drop_rate=drop_rate,
        drop_path=drop_path_rates(drop_path, sum(depths), drop_path_rule),
        global_pool=global_pool,
        checkpointing=checkpointing,
    )
    return VisionTransformer(Spec(num_classes, in_chans, height, width), shape, Pooling(), init)


@schema
class PiT:
    """The published networks as a model of their own; see `pit`.

    variant: the size. drop_rate: dropout, 0–1. drop_path: stochastic depth of the deepest block, 0–1. drop_path_rule:
    of the other blocks, as the authors' code or timm has it. init: `authors` by fan-in; trunc_normal with σ = 0.02.
    global_pool: what the classifier reads, the class token or the average. checkpointing: less memory for more time,
    same gradients.

    distilled: the networks with a second class token; "pair" gives an objective with a teacher both logits in training,
    "mean" gives any objective their mean.
    """

    variant: Variant = "ti"
    distilled: Literal["none", "mean", "pair"] = "none"
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path_rule: DropPathRule = "authors"
    init: Init = "authors"
    global_pool: GlobalPool = "token"
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.distilled != "none" and self.global_pool == "avg":
            raise ValueError("global_pool is avg; the distilled networks classify their class tokens: use token")

    def __call__(self, spec: Spec) -> nn.Module:
        model = pit(
            self.variant,
            (spec.height, spec.width),
            spec.classes,
            distilled=self.distilled != "none",
            in_chans=spec.channels,
            drop_rate=self.drop_rate,
            drop_path=self.drop_path,
            drop_path_rule=self.drop_path_rule,
            init=self.init,
            global_pool=self.global_pool,
            checkpointing=self.checkpointing,
        )
        model.set_distilled_training(self.distilled == "pair")
        return model
