"""Vision transformers of pre-norm blocks in stages (Dosovitskiy et al. 2021, arXiv 2010.11929; Touvron et al. 2021,
arXiv 2012.12877), with two slots that a technique may fill: the stem, and the pooling between stages.

With nothing between the stages they are one long stack, and the network is a plain ViT. A filled slot changes the cost,
so `ViT` then solves for the size that matches the cost of the plain network (models/vit_matching.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.capabilities import AttentionMap
from paribus.core.errors import ConfigError
from paribus.core.protocols import Spec
from paribus.models.classifier import classifier_like
from paribus.models.drop_path import DropPathRule, drop_path_rates
from paribus.models.vit_blocks import Stage, TransformerBlock
from paribus.models.vit_matching import BlockSize, Matched, build_on_meta, format_plain_note, match_size

Count = Annotated[int, Field(ge=1)]
Init = Literal["trunc_normal", "authors"]
GlobalPool = Literal["token", "avg"]


@runtime_checkable
class StemSlot(Protocol):
    def stride(self, patch: int) -> int:
        """Pixels between two neighbouring patches of `patch` pixels; ValueError if it cannot place them."""
        ...


@runtime_checkable
class PoolingSlot(Protocol):
    @property
    def growth(self) -> int:
        """By how much width and heads are multiplied from one stage to the next."""
        ...

    def layer(self, width: int) -> nn.Module:
        """Takes maps (n, width, h, w) and tokens (n, k, width), and returns both with growth × width channels."""
        ...


@schema
class Patches:
    """The plain stem: patches that do not overlap."""

    def stride(self, patch: int) -> int:
        return patch


@schema
class NoPooling:
    """Nothing between stages: constant width."""

    @property
    def growth(self) -> int:
        return 1

    def layer(self, width: int) -> nn.Module:
        return IdentityPooling()


class IdentityPooling(nn.Module):
    def forward(self, maps: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return maps, tokens


@dataclass(frozen=True)
class ViTArchitecture:
    """depths: blocks of each stage. first: the size of those of the first stage. tokens: class tokens, each with its
    own classifier. global_pool: what is classified, the class tokens or the mean of the patches'; there must be one
    token for the latter. drop_rate: dropout of the embedding and in the blocks, 0–1. drop_path: of each block.
    checkpointing: activations inside blocks are recomputed in the backward pass, not kept."""

    patch: int
    stride: int
    depths: tuple[int, ...]
    first: BlockSize
    tokens: int = 1
    drop_rate: float = 0.0
    drop_path: tuple[float, ...] | None = None
    global_pool: GlobalPool = "token"
    checkpointing: bool = False


class VisionTransformer(nn.Module):
    """The network; see `ViTArchitecture`. `pooling` makes the layer between two stages.

    The grid has floor((pixels − patch) / stride) + 1 cells a side, so pixels beyond the last patch are not seen.
    """

    def __init__(self, spec: Spec, shape: ViTArchitecture, pooling: PoolingSlot, init: Init) -> None:
        super().__init__()
        if min(spec.height, spec.width) < shape.patch:
            raise ConfigError(
                f"model: images of {spec.height}×{spec.width} pixels are smaller than a patch of {shape.patch}; "
                "choose a smaller patch or larger images"
            )
        if shape.global_pool == "avg" and shape.tokens != 1:
            raise ValueError("a ViT with a classifier for each of several class tokens needs global_pool='token'")
        self.image = (spec.height, spec.width)
        self.global_pool: GlobalPool = shape.global_pool
        first, rates = shape.first, shape.drop_path or (0.0,) * sum(shape.depths)
        grid = [(side - shape.patch) // shape.stride + 1 for side in self.image]
        self.stem = nn.Conv2d(spec.channels, first.width, shape.patch, shape.stride)
        self.position_map = nn.Parameter(torch.zeros(1, first.width, *grid))
        self.class_tokens = nn.Parameter(torch.zeros(1, shape.tokens, first.width))
        self.drop = nn.Dropout(shape.drop_rate)
        self.stages = nn.ModuleList()
        self.pools = nn.ModuleList()
        for i, depth in enumerate(shape.depths):
            here, done = first.scale(pooling.growth**i), sum(shape.depths[:i])
            if i > 0:
                self.pools.append(pooling.layer(first.scale(pooling.growth ** (i - 1)).width))
            blocks = (TransformerBlock(here, shape.drop_rate, rate) for rate in rates[done : done + depth])
            self.stages.append(Stage(blocks, shape.checkpointing))
        self.num_features = first.width * pooling.growth ** (len(shape.depths) - 1)
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)
        self.classifiers = nn.ModuleList(nn.Linear(self.num_features, spec.classes) for _ in range(shape.tokens))
        self.notes: tuple[str, ...] = ()
        self.pair_in_training = True
        init_weights(self, init)

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) to the output of the last stage, before any norm: maps (n, d, h', w') and class tokens (n, k, d)
        with d = num_features."""
        maps, tokens = self._embed_patches(x)
        for i, stage in enumerate(self.stages):
            if i > 0:
                maps, tokens = self.pools[i - 1](maps, tokens)
            maps, tokens = stage(maps, tokens)
        return maps, tokens

    def attention_maps(self, inputs: Tensor) -> Iterator[AttentionMap]:
        """The attention of every block for (n, c, h, w) inputs, in order. Each block's is computed a second time."""
        maps, tokens = self._embed_patches(inputs)
        pitch = (self.stem.stride[0], self.stem.stride[1])
        for i, stage in enumerate(self.stages):
            assert isinstance(stage, Stage)
            if i > 0:
                before = maps.shape[2:]
                maps, tokens = self.pools[i - 1](maps, tokens)
                # a pooling of stride s leaves ⌈cells / s⌉ cells, so that 27 → 14 → 7 are of stride 2 both times
                strides = [math.ceil(old / new) for old, new in zip(before, maps.shape[2:], strict=True)]
                pitch = (pitch[0] * strides[0], pitch[1] * strides[1])
            maps, tokens = yield from stage.attention_maps(maps, tokens, pitch)

    def _embed_patches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The first stage's maps and class tokens."""
        if x.shape[2:] != self.image:
            raise ValueError(f"this ViT was built for images of {self.image} pixels, got {tuple(x.shape[2:])}")
        return self.drop(self.stem(x) + self.position_map), self.class_tokens.expand(x.shape[0], -1, -1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(n, c, h, w) to (n, classes) logits. With several class tokens, training gives each classifier's logits (see
        `set_distilled_training`), evaluation their mean."""
        maps, tokens = self.forward_features(x)
        if self.global_pool == "avg":
            tokens = maps.mean((2, 3)).unsqueeze(1)
        # LayerNorm is per token, and only what is classified needs it
        logits = tuple(c(t) for c, t in zip(self.classifiers, self.norm(tokens).unbind(1), strict=True))
        if len(logits) == 1:
            return logits[0]
        return logits if self.training and self.pair_in_training else torch.stack(logits).mean(0)

    def set_distilled_training(self, enable: bool = True) -> None:
        """Whether training gives the logits of every class token, for an objective with a teacher, or their mean, for
        any other. As built: of every one, as PiT's and DeiT's authors do (timm: the mean)."""
        self.pair_in_training = enable

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for stage in self.stages:
            assert isinstance(stage, Stage)
            stage.checkpointing = enable

    @property
    def num_classes(self) -> int:
        first = self.classifiers[0]
        return first.out_features if isinstance(first, nn.Linear) else 0

    def reset_classifier(self, num_classes: int) -> None:
        """New classifiers; none for 0 classes, and the net then returns the normalised features before them."""
        self.classifiers = nn.ModuleList(
            classifier_like(self.class_tokens, self.num_features, num_classes) for _ in self.classifiers
        )

    def no_weight_decay(self) -> set[str]:
        return {"position_map", "class_tokens"}


def init_weights(model: VisionTransformer, init: Init) -> None:
    """Embeddings from a normal distribution of σ = 0.02 truncated at ±2.

    "trunc_normal", as DeiT and timm: so are the weights of linear layers, whose biases are 0. "authors", as PiT:
    linear layers keep PyTorch's initialisation. Convolutions keep PyTorch's in both.
    """
    nn.init.trunc_normal_(model.position_map, std=0.02)
    nn.init.trunc_normal_(model.class_tokens, std=0.02)
    for module in model.modules():
        if init == "trunc_normal" and isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)


@schema
class ViT:
    """patch: pixels a side. depths: blocks of each stage. heads, head_dim: the width is their product.

    stem, pooling: the slots. Filling one changes heads, head_dim and mlp_ratio such that the network costs as many
    MACs as with both slots plain, within 1 %; `notes` of the module says how. match: macs, or parameters instead.
    mlp_ratio: width of a block's MLP over the block's. drop_rate: dropout, 0–1. drop_path: stochastic depth of the
    deepest block, 0–1. drop_path_rule: of the other blocks, as the authors' code or timm has it. init: `authors` by
    fan-in, as narrow nets need; trunc_normal with σ = 0.02. global_pool: what the classifier reads, the class token or
    the average. checkpointing: less memory for more time, same gradients.
    """

    patch: Count = 4
    depths: Annotated[tuple[Count, ...], Field(min_length=1)] = (2, 6, 4)
    heads: Count = 3
    head_dim: Count = 64
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    stem: StemSlot = Patches()
    pooling: PoolingSlot = NoPooling()
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path_rule: DropPathRule = "authors"
    init: Init = "trunc_normal"
    global_pool: GlobalPool = "token"
    checkpointing: bool = False
    match: Matched = "macs"

    def __post_init__(self) -> None:
        self.stem.stride(self.patch)  # a stem may refuse a patch; better before any data is read

    def __call__(self, spec: Spec) -> nn.Module:
        size = BlockSize(self.heads, self.head_dim, max(1, round(self.mlp_ratio * self.heads * self.head_dim)))
        plain = replace(self, stem=Patches(), pooling=NoPooling())
        reference = build_on_meta(lambda: plain.build_network(spec, size))
        if self == plain:
            note = format_plain_note(reference, size, spec)
        else:
            size, note = match_size(lambda tried: self.build_network(spec, tried), reference, size, spec, self.match)
        model = self.build_network(spec, size)
        model.notes = (note,)
        return model

    def build_network(self, spec: Spec, first: BlockSize) -> VisionTransformer:
        """The network with this first stage, whatever its cost."""
        rates = drop_path_rates(self.drop_path, sum(self.depths), self.drop_path_rule)
        shape = ViTArchitecture(
            patch=self.patch,
            stride=self.stem.stride(self.patch),
            depths=self.depths,
            first=first,
            drop_rate=self.drop_rate,
            drop_path=rates,
            global_pool=self.global_pool,
            checkpointing=self.checkpointing,
        )
        return VisionTransformer(spec, shape, self.pooling, self.init)
