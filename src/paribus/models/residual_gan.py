"""Residual generator and discriminator for images of 32 pixels, after SNGAN (Miyato, Kataoka, Koyama & Yoshida 2018,
arXiv 1802.05957, table 4 of its appendix), of any width and any number of halvings."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from paribus.core.build import schema
from paribus.core.generation import ChangeMaps, Generated, ScoredImages, keep_maps
from paribus.core.protocols import Spec
from paribus.models.convnet import Norm, norm_layer
from paribus.models.dcgan import smallest_size


class UpBlock(nn.Module):
    """Normalise, ReLU, double the size, 3×3 convolution; again without doubling; beside it the doubled input."""

    def __init__(self, before: int, after: int, norm: Norm) -> None:
        super().__init__()
        self.norms = nn.ModuleList((norm_layer(norm, before), norm_layer(norm, after)))
        self.convolutions = nn.ModuleList((nn.Conv2d(before, after, 3, 1, 1), nn.Conv2d(after, after, 3, 1, 1)))
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.convolutions[0](F.interpolate(F.relu(self.norms[0](maps)), scale_factor=2))
        inner = self.convolutions[1](F.relu(self.norms[1](inner)))
        return inner + self.shortcut(F.interpolate(maps, scale_factor=2))


class ResidualGenerator(nn.Module):
    """A linear layer makes maps of the smallest size, each block doubles it, a convolution and tanh end."""

    def __init__(self, spec: Spec, latent: int, width: int, doublings: int, norm: Norm, conditional: bool) -> None:
        super().__init__()
        self.latent, self.classes = latent, spec.classes if conditional else 0
        self._start = smallest_size(spec, doublings, "model.doublings")
        self.first = nn.Linear(latent + self.classes, width * self._start[0] * self._start[1])
        self.blocks = nn.ModuleList(UpBlock(width, width, norm) for _ in range(doublings))
        self.last_norm = norm_layer(norm, width)
        self.last = nn.Conv2d(width, spec.channels, 3, 1, 1)
        for module in self.modules():
            _draw(module)

    def forward(self, noise: Tensor, classes: Tensor | None = None) -> Generated:
        """(n, latent) and, if conditional, (n, classes) weights to images (n, c, h, w), −1 to 1, and blocks' maps."""
        if classes is not None:
            noise = torch.cat((noise, classes), 1)
        maps = [self.first(noise).unflatten(1, (-1, *self._start))]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return Generated(torch.tanh(self.last(F.relu(self.last_norm(maps[-1])))), tuple(maps))


class DownBlock(nn.Module):
    """Two 3×3 convolutions, and beside them a 1×1; halves: their results are averaged over 2×2. first: takes images,
    which are not activated."""

    def __init__(self, before: int, after: int, halves: bool, first: bool, spectral: bool) -> None:
        super().__init__()
        self._halves, self._first = halves, first
        layers = (nn.Conv2d(before, after, 3, 1, 1), nn.Conv2d(after, after, 3, 1, 1))
        shortcut = nn.Conv2d(before, after, 1) if halves or before != after else None
        for layer in (*layers, shortcut):
            _draw(layer)
        self.convolutions = nn.ModuleList(spectral_norm(layer) if spectral else layer for layer in layers)
        self.shortcut = spectral_norm(shortcut) if shortcut is not None and spectral else shortcut

    def forward(self, maps: Tensor, change: ChangeMaps, layer: int) -> Tensor:
        inner = maps if self._first else F.relu(maps)
        inner = change(self.convolutions[0](inner), layer)
        inner = change(self.convolutions[1](F.relu(inner)), layer + 1)
        beside = maps if self.shortcut is None else self.shortcut(maps)
        return F.avg_pool2d(inner, 2) + F.avg_pool2d(beside, 2) if self._halves else inner + beside


class ResidualDiscriminator(nn.Module):
    """Blocks that halve, then two that do not; ReLU, the sum over places, a linear layer."""

    def __init__(self, spec: Spec, width: int, halvings: int, spectral: bool, conditional: bool) -> None:
        super().__init__()
        self.classes = spec.classes if conditional else 0
        smallest_size(spec, halvings, "method.discriminator.halvings")
        self.blocks = nn.ModuleList(
            DownBlock(spec.channels if i == 0 else width, width, i < halvings, i == 0, spectral)
            for i in range(halvings + 2)
        )
        score = nn.Linear(width, 1)
        embedding = nn.Linear(self.classes, width, bias=False) if conditional else None
        for layer in (score, embedding):
            _draw(layer)
        self.score = spectral_norm(score) if spectral else score
        self.embedding = spectral_norm(embedding) if embedding is not None and spectral else embedding

    def forward(self, images: Tensor, classes: Tensor | None = None, change: ChangeMaps = keep_maps) -> ScoredImages:
        """(n, c, h, w) to scores (n,) and each block's maps; see `core.generation.Discriminates`."""
        maps, stages = images, []
        for i, block in enumerate(self.blocks):
            maps = block(maps, change, 2 * i)
            stages.append(maps)
        features = F.relu(maps).sum((2, 3))
        scores = self.score(features)[:, 0]
        if self.embedding is not None and classes is not None:
            scores = scores + (self.embedding(classes) * features).sum(1)
        return ScoredImages(scores, tuple(stages))


def _draw(module: nn.Module | None) -> None:
    """Glorot's uniform weights, as SNGAN's; biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@schema
class ResidualGANGenerator:
    """latent: numbers of noise. width: channels of all layers. doublings: blocks, each of which doubles the size. norm:
    before each convolution. conditional: whether an image is of a given class."""

    latent: Annotated[int, Field(ge=1)] = 128
    width: Annotated[int, Field(ge=1)] = 256
    doublings: Annotated[int, Field(ge=1)] = 3
    norm: Norm = "batch"
    conditional: bool = False

    def __call__(self, spec: Spec) -> nn.Module:
        """Raises ConfigError where the image cannot be halved so often."""
        return ResidualGenerator(spec, self.latent, self.width, self.doublings, self.norm, self.conditional)


@schema
class ResidualGANDiscriminator:
    """width: channels of all layers. halvings: blocks that halve the size, before two that do not. spectral: spectral
    normalisation of all layers. conditional: as the generator."""

    width: Annotated[int, Field(ge=1)] = 128
    halvings: Annotated[int, Field(ge=1)] = 2
    spectral: bool = True
    conditional: bool = False

    def __call__(self, spec: Spec) -> nn.Module:
        """Raises ConfigError where the image cannot be halved so often."""
        return ResidualDiscriminator(spec, self.width, self.halvings, self.spectral, self.conditional)
