"""Convolutional generator and discriminator for small images, after DCGAN and SNGAN.

Radford, Metz & Chintala 2015, arXiv 1511.06434: a generator of strided transposed convolutions with BatchNorm and ReLU,
weights drawn from N(0, 0.02²). Miyato, Kataoka, Koyama & Yoshida 2018, arXiv 1802.05957: a discriminator with spectral
normalisation in place of BatchNorm. Classes, if they are asked for: beside the noise, and by the projection of Miyato &
Koyama 2018, arXiv 1802.05637.
"""

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.generation import ChangeMaps, Generated, ScoredImages, keep_maps
from paribus.core.protocols import Spec
from paribus.models.convnet import Norm, norm_layer

Widths = tuple[Annotated[int, Field(ge=1)], ...]
_STD = 0.02


class DCGANGeneratorNet(nn.Module):
    """A linear layer makes maps of the smallest size; each stage doubles it; the last makes an image, by tanh."""

    def __init__(self, spec: Spec, latent: int, widths: Widths, norm: Norm, conditional: bool) -> None:
        super().__init__()
        self.latent, self.classes = latent, spec.classes if conditional else 0
        self._start = smallest_size(spec, len(widths), "model.widths")
        height, width = self._start
        self.first = nn.Linear(latent + self.classes, widths[0] * height * width, bias=norm == "none")
        self.first_norm = norm_layer(norm, widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(before, after, 4, 2, 1, bias=norm == "none"), norm_layer(norm, after), nn.ReLU()
            )
            for before, after in pairwise(widths)
        )
        self.last = nn.ConvTranspose2d(widths[-1], spec.channels, 4, 2, 1)
        draw_weights(self)

    def forward(self, noise: Tensor, classes: Tensor | None = None) -> Generated:
        """(n, latent) and, if conditional, (n, classes) weights to (n, c, h, w) images, −1 to 1, and each stage's
        maps."""
        if classes is not None:
            noise = torch.cat((noise, classes), 1)
        maps = [F.relu(self.first_norm(self.first(noise).unflatten(1, (-1, *self._start))))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return Generated(torch.tanh(self.last(maps[-1])), tuple(maps))


class DCGANDiscriminatorNet(nn.Module):
    """A stage for each width: a 3×3 convolution and one of stride 2, leaky ReLU; a linear layer makes the score."""

    def __init__(self, spec: Spec, widths: Widths, spectral: bool, conditional: bool) -> None:
        super().__init__()
        self.classes = spec.classes if conditional else 0
        height, width = smallest_size(spec, len(widths), "method.discriminator.widths")
        normed = spectral_norm if spectral else lambda layer: layer
        convolutions: list[nn.Module] = []
        for before, after in zip((spec.channels, *widths), widths, strict=False):
            convolutions += [nn.Conv2d(before, after, 3, 1, 1), nn.Conv2d(after, after, 4, 2, 1)]
        features = widths[-1] * height * width
        score = nn.Linear(features, 1)
        embedding = nn.Linear(self.classes, features, bias=False) if conditional else None
        draw_weights(nn.ModuleList([*convolutions, score, *([embedding] if embedding else [])]))
        # afterwards, since its power iteration starts from the weights as they are
        self.convolutions = nn.ModuleList(normed(layer) for layer in convolutions)
        self.score = normed(score)
        self.embedding = normed(embedding) if embedding else None

    def forward(self, images: Tensor, classes: Tensor | None = None, change: ChangeMaps = keep_maps) -> ScoredImages:
        """(n, c, h, w) to scores (n,) and each stage's maps; see `core.generation.Discriminates`."""
        maps, stages = images, []
        for layer, convolution in enumerate(self.convolutions):
            maps = F.leaky_relu(change(convolution(maps), layer), 0.1)
            if layer % 2:
                stages.append(maps)
        features = maps.flatten(1)
        scores = self.score(features)[:, 0]
        if self.embedding is not None and classes is not None:
            scores = scores + (self.embedding(classes) * features).sum(1)
        return ScoredImages(scores, tuple(stages))


def smallest_size(spec: Spec, doublings: int, key: str) -> tuple[int, int]:
    """Height and width that become the images' when they are doubled so many times. Raises ConfigError."""
    if spec.height % 2**doublings or spec.width % 2**doublings:
        raise ConfigError(
            f"{key}: found {doublings} stages, each of which halves or doubles the size, for images of "
            f"{spec.height}×{spec.width}, which {2**doublings} does not divide; use fewer stages or another data.size"
        )
    return spec.height // 2**doublings, spec.width // 2**doublings


def draw_weights(network: nn.Module) -> None:
    """Of convolutions and linear layers from N(0, 0.02²); biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@schema
class DCGANGenerator:
    """latent: numbers of noise. widths: channels from the smallest maps on, each stage twice as large as the one
    before; their number says how often the image's size is halved. norm: after each layer but the last. conditional:
    whether an image is of a given class."""

    latent: Annotated[int, Field(ge=1)] = 128
    widths: Widths = (256, 128, 64)
    norm: Norm = "batch"
    conditional: bool = False

    def __call__(self, spec: Spec) -> nn.Module:
        """Raises ConfigError where the image cannot be halved so often."""
        return DCGANGeneratorNet(spec, self.latent, self.widths, self.norm, self.conditional)


@schema
class DCGANDiscriminator:
    """widths: channels of each stage, of which each halves the image. spectral: spectral normalisation of all layers.
    conditional: as the generator."""

    widths: Widths = (64, 128, 256)
    spectral: bool = True
    conditional: bool = False

    def __call__(self, spec: Spec) -> nn.Module:
        """Raises ConfigError where the image cannot be halved so often."""
        return DCGANDiscriminatorNet(spec, self.widths, self.spectral, self.conditional)
