"""Colour jitter: random changes to brightness, contrast, saturation and hue of each training image."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.data.ops import color, native
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.fused import choose_kernel
from paribus.data.ops.transfer import change_where, to_device

Strength = Annotated[float, Field(ge=0)]


@schema
class ColorJitter:
    """torchvision's ColorJitter on Pillow images: the four changes in random order for each image.

    brightness, contrast, saturation: the factor is uniform in max(0, 1 − x)..1 + x. hue: the rotation is uniform in
    −x..x of the hue circle. 0 leaves a property unchanged. One channel has no saturation and no hue, as in torchvision;
    of four, the last is alpha and stays. With the same factors and order, bit-exact with torchvision.
    """

    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    def __call__(self, images: Tensor, draws: SampleRandom, name: str) -> Tensor:
        factors, order = self.sample_parameters(draws, name)
        return color.without_alpha(images, lambda colours: self._apply(colours, factors, order))

    def _apply(self, images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
        if (kernel := choose_kernel(images)) is not None:
            return kernel(images, *self._kernel_operations(factors, order))
        for place in range(4):
            images = self._apply_one(images, factors, order[:, place])
        return images

    def sample_parameters(self, draws: SampleRandom, name: str) -> tuple[Tensor, Tensor]:
        """(b, 4) float32 factors of brightness, contrast, saturation, hue, and (b, 4) their order: which comes first,
        second ... They are beside the ids."""
        u = draws.beside_ids(name, 8)
        ranges = [(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)]
        ranges.append((-self.hue, self.hue))
        factors = torch.stack([low + u[:, i] * (high - low) for i, (low, high) in enumerate(ranges)], 1)
        return factors, u[:, 4:].argsort(dim=1, stable=True)

    def _kernel_operations(self, factors: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Operations and arguments as the kernel takes them."""
        names = ("brightness", "contrast", "saturation", "hue")
        used = torch.tensor([native.OPERATION_CODES[name] if getattr(self, name) else 0 for name in names])
        (codes,) = to_device(order.device, used)
        turned = torch.cat((factors[:, :3].double(), (factors[:, 3:].double() * 255).trunc()), 1)
        return codes[order], torch.nn.functional.pad(turned.gather(1, order)[..., None], (0, 5))

    def _apply_one(self, images: Tensor, factors: Tensor, which: Tensor) -> Tensor:
        """One change of each image."""
        if images.shape[3] == 3 and self.hue:
            images = change_where(images, which == 3, (factors[:, 3],), color.hue)
        strengths = (self.brightness, self.contrast, self.saturation if images.shape[3] == 3 else 0.0)
        blended = torch.stack([(which == i) & (strength > 0) for i, strength in enumerate(strengths)]).any(0)
        return change_where(images, blended, (which, factors), _blend) if any(strengths) else images


def _blend(images: Tensor, which: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast or saturation (0, 1, 2) of each image: blends with black, the mean grey and the grey image,
    so one blend serves all three."""
    levels, chosen = color.grey(images), which.view(-1, 1, 1, 1)
    other = torch.where(chosen == 0, 0, torch.where(chosen == 1, color.mean_grey(levels), levels))
    return color.blend(other, images, factors.gather(1, which[:, None])[:, 0])
