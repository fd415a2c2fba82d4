"""A small convolutional net for images and a GRU for captions, which end in one space.

Objectives have no state, so the numbers that a loss learns are the network's: `learns` says which heads and numbers it
has. It has none that its loss leaves alone, since each of several processes would wait for their gradients. Encoders
and mean heads are made first, so they start with the same weights whatever `learns` says.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.embeddings import Gaussians, MatchedPairs
from paribus.core.protocols import Spec
from paribus.models.convnet import Norm, norm_layer

Learns = Literal["means", "temperature", "gaussians"]
PADDING = 0  # the token that stands behind a caption's last word


class ImageEncoder(nn.Module):
    """A 3×3 convolution of stride 2, normalisation and ReLU for each width; what is left of the image, place by place,
    since captions tell places."""

    def __init__(self, spec: Spec, widths: tuple[int, ...], norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        height, width = spec.height, spec.width
        for before, channels in zip((spec.channels, *widths), widths, strict=False):
            conv = nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=norm == "none")
            layers += [conv, norm_layer(norm, channels), nn.ReLU()]
            height, width = (height + 1) // 2, (width + 1) // 2
        self.layers = nn.Sequential(*layers)
        self.features = widths[-1] * height * width

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs).flatten(1)


class TextEncoder(nn.Module):
    """The state of a GRU after a caption's last word. What stands behind it changes nothing."""

    def __init__(self, vocabulary: int, words: int, state: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, words)
        self.gru = nn.GRU(words, state, batch_first=True)
        self.features = state

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.gru(self.words(tokens))
        last = ((tokens != PADDING).sum(1) - 1).clamp(min=0)
        return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[2]))[:, 0]


class TwoEncodersNet(nn.Module):
    def __init__(self, spec: Spec, settings: "TwoEncoders") -> None:
        super().__init__()
        self.image = ImageEncoder(spec, settings.widths, settings.norm)
        self.text = TextEncoder(settings.vocabulary, settings.words, settings.state)
        encoders = self.image, self.text
        self.means = nn.ModuleList(nn.Linear(encoder.features, settings.dim) for encoder in encoders)
        self.log_sigmas = nn.ModuleList()
        self.log_temperature = self.scale = self.shift = None
        if settings.learns == "temperature":
            self.log_temperature = nn.Parameter(torch.tensor(settings.temperature).log())
        if settings.learns == "gaussians":
            heads = [nn.Linear(encoder.features, settings.dim) for encoder in encoders]
            for head in heads:
                nn.init.constant_(head.bias, settings.log_sigma)
            self.log_sigmas.extend(heads)
            self.scale = nn.Parameter(torch.tensor(settings.scale))
            self.shift = nn.Parameter(torch.tensor(settings.shift))

    def forward(self, inputs: Tensor, tokens: Tensor | None = None) -> MatchedPairs | Tensor:
        """(n, c, h, w) images and (n, length) tokens; of images alone their means, (n, d)."""
        images = self.embed_images(inputs)
        if tokens is None:
            return images.mean
        return MatchedPairs(images, self.embed_texts(tokens), self.log_temperature, self.scale, self.shift)

    def embed_images(self, inputs: Tensor) -> Gaussians:
        return self._end(0, self.image(inputs))

    def embed_texts(self, tokens: Tensor) -> Gaussians:
        return self._end(1, self.text(tokens))

    def _end(self, which: int, features: Tensor) -> Gaussians:
        mean = F.normalize(self.means[which](features), dim=1)
        return Gaussians(mean, self.log_sigmas[which](features) if len(self.log_sigmas) else None)


@schema
class TwoEncoders:
    """learns: means (points alone), temperature (and that of a contrastive loss), or gaussians (and a deviation of each
    coordinate, with scale and shift of a match's logit). widths: channels of the convolutions. norm: after each.
    vocabulary: how many tokens there are; data=shape_captions has 20. words: size of a word's embedding. state: of the
    GRU. dim: of the common space. temperature: where it starts; cosines are divided by it. scale, shift: where a and b
    start, of the logit −a · distance + b. log_sigma: where log σ starts, but for what weights add.
    """

    learns: Learns = "means"
    widths: tuple[Annotated[int, Field(ge=1)], ...] = (16, 32, 64)
    norm: Norm = "group"
    vocabulary: Annotated[int, Field(ge=2)] = 32
    words: Annotated[int, Field(ge=1)] = 32
    state: Annotated[int, Field(ge=1)] = 64
    dim: Annotated[int, Field(ge=1)] = 32
    temperature: Annotated[float, Field(gt=0)] = 0.07
    scale: Annotated[float, Field(gt=0)] = 5.0
    shift: float = 5.0
    log_sigma: float = -3.0

    def __call__(self, spec: Spec) -> nn.Module:
        return TwoEncodersNet(spec, self)
