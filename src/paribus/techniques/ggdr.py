"""GGDR: the discriminator learns to say what the generator's features were at each place of a generated image.

Lee, Kim, Kim, Kim, Ha & Choi, "Generator Knows What Discriminator Should Learn in Unconditional GANs", ECCV 2022,
arXiv 2207.13320.

    R = λ E (1 − mean over places of cos(F(G(z)), G_r(z)))        λ = 10

G_r are the generator's maps of r × r places and the cosine is over channels; F is a decoder on the discriminator's
features that makes it a U-Net: from the smallest maps up, each size with the discriminator's own maps beside it.

What it changes   a term in the discriminator's loss at generated images, and a decoder that is trained by it alone.
                  Through the decoder it trains the discriminator's features; scores do not depend on it. The
                  generator's maps are constants, its loss is as it was. Fits every recipe with method=adversarial whose
                  two networks both have maps of that size, beside other penalties, losses and optimizers.
Hyperparameters   weight = 10 (λ); reduction = 4, as the authors advise: r is a quarter of the image's side.
As the authors    generated images alone, in the discriminator's step alone; the weight; the size.
Deviations        written from the paper's maths alone. The decoder is ours: a 3×3 convolution and leaky ReLU at each
                  size, as wide as the discriminator there, and a 1×1 convolution to the generator's channels; theirs
                  is StyleGAN2's. Maps are those that the generator gives (`core.generation.Generated`): of DCGAN after
                  ReLU, of residual blocks their sums. Images are not augmented between the two networks, so maps
                  need not be either.
Controls          target = random: the same decoder, with the maps of another generated image, drawn at random anew
                  in each step (the next one on a random circle of the batch, so never its own). It has the right
                  maps' shape, scale, sparseness and mean, all of which a decoder can learn; what it lacks is what this
                  image is. Numbers from a normal distribution would lack the former too, and a difference could be due
                  to that. weight = 0 is plain training to the bit.
Cost              the decoder's forward and backward at the generated images, and one more backward into the
                  discriminator. target = random exchanges maps between processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import matches_signature, schema
from paribus.core.capabilities import list_added_parts
from paribus.core.errors import ConfigError
from paribus.core.generation import Discriminates, JudgedBatch, sketch_generated, sketch_judgement
from paribus.core.progress import Progress
from paribus.core.protocols import ModelFactory, Spec, StartsFromFile
from paribus.core.streams import permutation

_PART = "ggdr"
_KEY = "method.penalties.ggdr.reduction"
Size = tuple[int, int]


def guidance_loss(guessed: Tensor, maps: Tensor) -> Tensor:
    """1 − mean cosine over the channels of (n, c, h, w) maps, a scalar, in float32 at least. A place where either is 0
    in all channels counts as a cosine of 0."""
    wide = (x.float() if x.dtype.itemsize < 4 else x for x in (guessed, maps))
    return 1 - F.cosine_similarity(*wide, dim=1).mean()


def find_size(maps: Sequence[Tensor], size: tuple[int, ...], whose: str) -> int:
    """Which of these maps is the last of this size. Raises ConfigError where none is."""
    sizes = [tuple(each.shape[2:]) for each in maps]
    if size in sizes:
        return len(sizes) - 1 - sizes[::-1].index(size)
    known = ", ".join(f"{h}×{w}" for h, w in dict.fromkeys(sizes))
    raise ConfigError(
        f"{_KEY}: asks for maps of {size[0]}×{size[1]}, and the {whose} has {known}; choose a reduction that gives a "
        "size which both networks have"
    )


class Decoder(nn.Module):
    """From a discriminator's maps, large to small, to (n, channels, h, w) of one of their sizes."""

    def __init__(self, maps: Sequence[Tensor], size: Size, channels: int) -> None:
        """maps: of any two images. Raises ConfigError unless some have this size."""
        super().__init__()
        largest = find_size(maps, size, "discriminator")
        smaller = dict.fromkeys(tuple(each.shape[2:]) for each in maps[largest:])
        self._chosen = [find_size(maps, each, "discriminator") for each in reversed(smaller)]  # from small to large
        widths = [maps[i].shape[1] for i in self._chosen]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(below + own, own, 3, 1, 1) for below, own in zip((0, *widths), widths, strict=False)
        )
        self.last = nn.Conv2d(widths[-1], channels, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        made: Tensor | None = None
        for i, convolution in zip(self._chosen, self.convolutions, strict=True):
            beside = maps[i]
            if made is not None:
                beside = torch.cat((F.interpolate(made, beside.shape[2:]), beside), 1)
            made = F.leaky_relu(convolution(beside), 0.1)
        return self.last(made)


@schema
class GuidedDiscriminator:
    """network: makes the discriminator. channels: of the generator's maps. size: (h, w) of these."""

    network: Annotated[ModelFactory, matches_signature(ModelFactory)]
    channels: Annotated[int, Field(ge=1)]
    size: Size

    def __call__(self, spec: Spec) -> nn.Module:
        """The discriminator, whose weights and their names stay as they are, with a decoder among its modules. Raises
        ConfigError where it has no maps of this size."""
        network = self.network(spec)
        if isinstance(network, Discriminates):  # else the method refuses it
            images = torch.empty(2, spec.channels, spec.height, spec.width, device="meta")
            maps = sketch_judgement(network, images).maps
            network.add_module(_PART, Decoder(maps, self.size, self.channels))
            parts = (*list_added_parts(network), _PART)
            network.added_parts = parts  # pyright: ignore[reportArgumentType]
        return network

    def without_file(self) -> ModelFactory:
        inner = self.network
        return replace(self, network=inner.without_file()) if isinstance(inner, StartsFromFile) else self


@schema
class GGDR:
    """weight: λ; 0: plain training. reduction: the image's side divided by that of the maps. target: generator, this
    image's maps; random, a control: another image's."""

    weight: Annotated[float, Field(ge=0)] = 10.0
    reduction: Annotated[int, Field(ge=1)] = 4
    target: Literal["generator", "random"] = "generator"

    @property
    def differentiates(self) -> bool:
        return False

    def extend_discriminator(self, discriminator: ModelFactory, generator: nn.Module) -> ModelFactory:
        """Raises ConfigError where the generator has no maps of this size."""
        images, maps = sketch_generated(generator)
        size = (images.shape[2] // self.reduction, images.shape[3] // self.reduction)
        channels = maps[find_size(maps, size, "generator")].shape[1]
        return GuidedDiscriminator(network=discriminator, channels=channels, size=size)

    def draw(self, batch: Batch, at: Progress) -> Mapping[str, Any]:
        """other: (n,) places in the global batch, of the images whose maps are asked for; nothing for one's own."""
        if self.target == "generator":
            return {}
        circle = permutation(at.seed, "ggdr.other", at.step, batch.size, batch.positions.device)
        return {"other": circle[(circle.argsort()[batch.positions] + 1) % batch.size]}

    def __call__(self, judged: JudgedBatch, drawn: Mapping[str, Any]) -> Tensor:
        maps = judged.fake_judgement.maps
        if not self.weight:  # processes that exchange gradients wait for one of every weight
            maps = tuple(each.detach() for each in maps)
        guessed = judged.discriminator.get_submodule(_PART)(maps)
        maps = judged.generated[find_size(judged.generated, tuple(guessed.shape[2:]), "generator")].detach()
        if drawn:
            maps = judged.gathered(maps)[drawn["other"]]
        return self.weight * guidance_loss(guessed, maps)
