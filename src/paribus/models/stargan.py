"""StarGAN's networks: a generator that is told a domain, and a discriminator that names the domain of an image.

Choi, Choi, Kim, Ha, Kim & Choo, "StarGAN: Unified generative adversarial networks for multi-domain image-to-image
translation", CVPR 2018, arXiv 1711.09020, tables 4 and 5. The target domain comes to the generator as one more channel
for each domain, of one value everywhere. Right for any size that the strides divide; 128 pixels in the paper.

Both may also be several networks, each for some of the domains (models/domain_nets.py). Then what goes in and out has
one more axis, a place for each network.
"""

import itertools
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import matches_signature, schema
from paribus.core.errors import ConfigError
from paribus.core.mixing import to_soft_targets
from paribus.core.protocols import ModelFactory, Spec
from paribus.models.domain_nets import Budget, Division, DomainNets, OneForEachPair, make_nets

_SLOPE = 0.01  # of the discriminator's leaky ReLU


def _channels(width: float, factor: int) -> int:
    return max(1, round(width * factor))


def _normed(layer: nn.Module, channels: int) -> list[nn.Module]:
    return [layer, nn.InstanceNorm2d(channels, affine=True), nn.ReLU()]


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(channels, channels, 3, 1, 1, bias=False) for _ in range(2)]
        self.layers = nn.Sequential(
            *_normed(convolutions[0], channels), convolutions[1], nn.InstanceNorm2d(channels, affine=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Translator(nn.Module):
    """A 7×7 convolution, some that halve the image, residual blocks, as many that double it, a 7×7 one, tanh."""

    def __init__(self, channels: int, domains: int, width: float, halvings: int, blocks: int) -> None:
        super().__init__()
        widths = [_channels(width, 2**k) for k in range(halvings + 1)]
        down, up = itertools.pairwise(widths), itertools.pairwise(widths[::-1])
        self.layers = nn.Sequential(
            *_normed(nn.Conv2d(channels + domains, widths[0], 7, 1, 3, bias=False), widths[0]),
            *(layer for a, b in down for layer in _normed(nn.Conv2d(a, b, 4, 2, 1, bias=False), b)),
            *(Residual(widths[-1]) for _ in range(blocks)),
            *(layer for a, b in up for layer in _normed(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), b)),
            nn.Conv2d(widths[0], channels, 7, 1, 3, bias=False),
            nn.Tanh(),
        )

    def forward(self, images: Tensor, domains: Tensor) -> Tensor:
        """(n, c, h, w), −1 to 1, and (n, k) weights of the target domains to (n, c, h, w), −1 to 1."""
        planes = domains[:, :, None, None].expand(-1, -1, *images.shape[2:])
        return self.layers(torch.cat((images, planes.to(images.dtype)), 1))


class StarGANGeneratorNet(nn.Module):
    """The translators of a division of the domains."""

    def __init__(self, spec: Spec, settings: "StarGANGenerator") -> None:
        super().__init__()
        size = 2**settings.halvings
        if spec.height % size or spec.width % size:
            raise ConfigError(
                f"model.halvings: found {settings.halvings}, each of which halves the image, and {size} does not "
                f"divide {spec.height}×{spec.width}; use fewer, or another data.size"
            )
        self.division = Division(settings.nets(spec.classes), spec.classes, settings.budget)
        self.nets, note = make_nets(
            lambda width, known: Translator(spec.channels, known, width, settings.halvings, settings.blocks),
            settings.width,
            self.division,
            "generators",
        )
        self.notes = (note,) if note else ()

    def translate_all(self, images: Tensor, domains: Tensor) -> Tensor:
        """Every network's translation, (n, nets, c, h, w). images: as many, or (n, c, h, w), the same for all.
        domains: (n, nets, known) weights."""
        each = _for_each(images, len(self.nets))
        return torch.stack([net(x, c) for net, x, c in zip(self.nets, each, domains.unbind(1), strict=True)], 1)

    def forward(self, images: Tensor, domains: Tensor | None = None, sources: Tensor | None = None) -> Tensor:
        """(n, c, h, w) images, −1 to 1, to as many of other domains.

        domains: (n,) int64, those asked for. sources: (n,) int64, those of the images; one network for all domains need
        not know. Of images alone, as where costs are counted, all networks' translations to their first domain.
        """
        division = self.division
        if domains is None:
            first = torch.zeros(len(images), len(self.nets), dtype=torch.int64, device=images.device)
            weights = to_soft_targets(first.flatten(), division.known, images.dtype)
            return self.translate_all(images, weights.view(*first.shape, -1)).flatten(1, 2)
        if len(self.nets) == 1:
            if not len(images):
                return images  # an instance norm takes no batch without images
            return self.nets[0](images, to_soft_targets(domains, division.known, images.dtype))
        if sources is None:
            raise ValueError("several networks share the domains, so that of each image (`sources`) has to be given")
        which, place = division.choose(sources, domains)
        out = torch.empty_like(images)
        for k, net in enumerate(self.nets):
            rows = torch.nonzero(which == k)[:, 0]
            if not len(rows):
                continue
            out[rows] = net(images[rows], to_soft_targets(place[rows], division.known, images.dtype))
        return out


class JudgedDomains(NamedTuple):
    """scores: (n, nets), higher where an image looks real, the mean over its patches. logits: (n, nets, known), of the
    domains."""

    scores: Tensor
    logits: Tensor


class Discriminator(nn.Module):
    """Convolutions that halve the image, leaky ReLU, no normalisation; of what is left a map of scores, one for each
    patch (PatchGAN), and the domain's logits."""

    def __init__(self, spec: Spec, domains: int, width: float, layers: int) -> None:
        super().__init__()
        widths = [spec.channels, *(_channels(width, 2**k) for k in range(layers))]
        convolutions = [nn.Conv2d(a, b, 4, 2, 1) for a, b in itertools.pairwise(widths)]
        self.layers = nn.Sequential(*(m for conv in convolutions for m in (conv, nn.LeakyReLU(_SLOPE))))
        left = (spec.height // 2**layers, spec.width // 2**layers)
        self.source = nn.Conv2d(widths[-1], 1, 3, 1, 1, bias=False)
        self.domain = nn.Conv2d(widths[-1], domains, left, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) to (n,) scores and (n, domains) logits."""
        features = self.layers(images)
        return self.source(features).mean((1, 2, 3)), self.domain(features).flatten(1)


class StarGANDiscriminatorNet(nn.Module):
    """The discriminators of a division of the domains."""

    def __init__(self, spec: Spec, settings: "StarGANDiscriminator", division: Division) -> None:
        super().__init__()
        size = 2**settings.layers
        if spec.height % size or spec.width % size:
            raise ConfigError(
                f"method.discriminator.layers: found {settings.layers}, each of which halves the image, and {size} "
                f"does not divide {spec.height}×{spec.width}; use fewer"
            )
        self.division = division
        self.nets, note = make_nets(
            lambda width, known: Discriminator(spec, known, width, settings.layers),
            settings.width,
            division,
            "discriminators",
        )
        self.notes = (note,) if note else ()

    def forward(self, images: Tensor) -> JudgedDomains:
        """images: (n, nets, c, h, w), or (n, c, h, w), the same for all networks."""
        parts = [net(x) for net, x in zip(self.nets, _for_each(images, len(self.nets)), strict=True)]
        return JudgedDomains(*(torch.stack(part, 1) for part in zip(*parts, strict=True)))


def _for_each(images: Tensor, nets: int) -> tuple[Tensor, ...]:
    return images.unbind(1) if images.ndim == 5 else (images,) * nets


@schema
class StarGANGenerator:
    """width: channels of the first layer, doubled by each halving; 64 in the paper. halvings: of the image, before the
    residual blocks; 2 in the paper, at 128 pixels. blocks: residual ones; 6 in the paper. nets: which networks
    there are: one for all domains, or one for each two. budget: what several networks have the parameters of one of
    this width in: together, or each of them."""

    width: Annotated[int, Field(ge=1)] = 64
    halvings: Annotated[int, Field(ge=0)] = 2
    blocks: Annotated[int, Field(ge=0)] = 6
    nets: Annotated[DomainNets, matches_signature(DomainNets)] = OneForEachPair()
    budget: Budget = "together"

    def __call__(self, spec: Spec) -> nn.Module:
        """Raises ConfigError where the image cannot be halved so often."""
        return StarGANGeneratorNet(spec, self)


@schema
class StarGANDiscriminator:
    """width: channels of the first layer, doubled by each further one; 64 in the paper. layers: how often the image is
    halved; 6 in the paper, at 128 pixels."""

    width: Annotated[int, Field(ge=1)] = 64
    layers: Annotated[int, Field(ge=1)] = 6

    def __call__(self, spec: Spec) -> nn.Module:
        """One network for all domains. Raises ConfigError where the image cannot be halved so often."""
        return self.divided(Division((tuple(range(spec.classes)),), spec.classes))(spec)

    def divided(self, division: Division) -> ModelFactory:
        """What makes the networks of a division."""
        return lambda spec: StarGANDiscriminatorNet(spec, self, division)
