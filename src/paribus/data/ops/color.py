"""Pillow's colour operations for whole batches: blends, look-up tables, saturation, sharpness, hue.

Images are (b, h, w, c) uint8 with 1 or 3 channels; factors, thresholds and the like are (b,), one for each image.
Integer and float32 operations in Pillow's order, so the results are bit-exact with Pillow on any device.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def without_alpha(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """`change` applied to the colours of (b, h, w, c) images; the fourth channel, alpha, stays as it is."""
    if images.shape[3] != 4:
        return change(images)
    return torch.cat((change(images[..., :3].contiguous()), images[..., 3:]), 3)


def blend(other: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Image.blend: other + factor · (image − other), clipped and truncated to a grey level.

    other: uint8 of the images' shape or one that is broadcast to it. factor: (b,) float32.
    """
    share = factor.view(-1, *[1] * (images.ndim - 1))
    base = other.to(torch.int16)
    return (base + share * (images.to(torch.int16) - base)).clamp_(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Pillow's convert("L"): (b, h, w, 1) uint8, ITU-R 601 weights in 16-bit fixed point."""
    if images.shape[3] == 1:
        return images
    red, green, blue = images.to(torch.int32).unbind(3)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).to(torch.uint8)[..., None]


def mean_grey(images: Tensor) -> Tensor:
    """The mean of `grey` of each image, rounded: (b, 1, 1, 1) uint8."""
    levels = grey(images)
    n = levels[0].numel()
    total = levels.sum((1, 2, 3), keepdim=True)  # int64
    return ((2 * total + n) // (2 * n)).to(torch.uint8)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """ImageEnhance.Brightness: 0 is black, 1 the image."""
    return blend(images.new_zeros(1, 1, 1, 1), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """ImageEnhance.Contrast: 0 is the mean grey everywhere, 1 the image."""
    return blend(mean_grey(images), images, factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """ImageEnhance.Color: 0 is grey, 1 the image."""
    return images if images.shape[3] == 1 else blend(grey(images), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """ImageEnhance.Sharpness: 0 is ImageFilter.SMOOTH, which does not change border pixels, 1 the image."""
    smooth = images.clone()
    if min(images.shape[1:3]) > 2:
        x = images.to(torch.int16)
        rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
        total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * x[:, 1:-1, 1:-1]
        smooth[:, 1:-1, 1:-1] = ((2 * total + 13) // 26).to(torch.uint8)
    return blend(smooth, images, factor)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """torchvision's adjust_hue of a Pillow image: through 8-bit HSV, the hue rotated by trunc(255 · shift) of 256
    steps. shift: (b,) float in −0.5..0.5. An image of one channel has no hue."""
    if images.shape[3] == 1:
        return images
    h, s, v = _rgb_to_hsv(images)
    turned = (h + (shift.double() * 255).trunc().long()[:, None, None]) % 256
    return _hsv_to_rgb(turned, s, v)


def _rgb_to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert.c's rgb2hsv: (b, h, w) int64 each, 0..255."""
    red, green, blue = (part.float() for part in images.unbind(3))
    most, least = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    flat = most == least
    spread = torch.where(flat, 1.0, most - least)
    far_red, far_green, far_blue = ((most - part) / spread for part in (red, green, blue))
    # in C, sums with a double constant are doubles, rounded to float when they are stored
    angle = torch.where(
        red == most,
        far_blue - far_green,
        torch.where(
            green == most,
            (2.0 + far_red.double() - far_blue.double()).float(),
            (4.0 + far_green.double() - far_red.double()).float(),
        ),
    )
    angle = torch.fmod(angle.double() / 6.0 + 1.0, 1.0).float()
    h = torch.where(flat, 0, (angle.double() * 255.0).long())
    s = torch.where(flat, 0, ((most - least) / most.clamp(min=1)).double().mul(255.0).long())
    return h.clamp(0, 255), s.clamp(0, 255), most.long()


# red, green and blue of the six sectors as indices into (v, t, p, q), two bits each
_SECTORS = sum(v << 2 * i for i, v in enumerate((0, 1, 2, 3, 0, 2, 2, 0, 1, 2, 3, 0, 1, 2, 0, 0, 2, 3)))


def _hsv_to_rgb(h: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """Convert.c's hsv2rgb: (b, h, w, 3) uint8."""
    sixth = (h.double() * 6.0 / 255.0).floor()
    part = (h.double() * 6.0 / 255.0 - sixth).float().double()
    full, value = (s.float() / 255.0).double(), v.double()

    def level(x: Tensor) -> Tensor:  # C's round: halves away from zero
        return (x.float().double() + 0.5).floor().clamp(0, 255).long()

    p = level(value * (1.0 - full))
    q = level(value * (1.0 - full * part))
    t = level(value * (1.0 - full * (1.0 - part)))
    sector = sixth.long() % 6
    choices = torch.stack((v, t, p, q), 3)  # for each sector, which of the four each channel takes
    # unpacked on the device: a table from the host would be copied, and waited for, in every call
    table = ((_SECTORS >> torch.arange(0, 36, 2, device=h.device)) & 3).view(6, 3)
    out = choices.gather(3, table[sector])
    return torch.where(s[..., None] == 0, v[..., None], out).to(torch.uint8)


# Look-up tables: (b, c, 256) uint8, one for each channel of each image


def apply_tables(images: Tensor, tables: Tensor) -> Tensor:
    """Each grey level replaced by its entry."""
    b, _, _, c = images.shape
    start = 256 * torch.arange(b * c, device=images.device).view(b, 1, 1, c)
    return tables.flatten()[images + start]


def histograms(images: Tensor) -> Tensor:
    """(b, c, 256) int64 counts."""
    b, _, _, c = images.shape
    place = (images + 256 * torch.arange(b * c, device=images.device).view(b, 1, 1, c)).flatten()
    counts = torch.zeros(b * c * 256, dtype=torch.int64, device=images.device)
    return counts.scatter_add_(0, place, torch.ones_like(place)).view(b, c, 256)


def autocontrast_tables(counts: Tensor) -> Tensor:
    """ImageOps.autocontrast: each channel stretched from its least and greatest level to 0 and 255."""
    levels = torch.arange(256, device=counts.device)
    there = counts > 0
    low = torch.where(there, levels, 255).amin(2, keepdim=True)
    high = torch.where(there, levels, 0).amax(2, keepdim=True)
    # number / tensor would be number · reciprocal, which is rounded differently
    scale = torch.full_like(counts[:, :, :1], 255, dtype=torch.float64) / (high - low).clamp(min=1)
    stretched = (levels * scale + (-low) * scale).trunc().clamp(0, 255)
    return torch.where(high <= low, levels, stretched.long()).to(torch.uint8)


def equalize_tables(counts: Tensor) -> Tensor:
    """ImageOps.equalize: levels by their rank among the channel's pixels."""
    levels = torch.arange(256, device=counts.device)
    there = counts > 0
    last = counts.gather(2, torch.where(there, levels, 0).amax(2, keepdim=True))
    step = (counts.sum(2, keepdim=True) - last) // 255
    before = counts.cumsum(2) - counts
    made = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    as_it_is = (there.sum(2, keepdim=True) <= 1) | (step == 0)
    return torch.where(as_it_is, levels, made).to(torch.uint8)
