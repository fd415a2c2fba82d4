"""Pillow's colour and affine operations as Triton kernels: color.c for images on a GPU, bit-exact with it.

A turn gives every image its own operation, or copies it, in one launch that reads and writes a pixel once; two before
it count grey levels for the operations that depend on them. Nothing is read back, so the host waits for nothing.

The arithmetic is checked without a GPU by Triton's interpreter (TRITON_INTERPRET=1, tests/parity/test_color_triton.py).
Two things the interpreter cannot show are held there by reading the compiled code: no product and sum are fused (Pillow
rounds both), and divisions are rounded as IEEE says.
"""

# Triton's own language has no types that a checker could follow
# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from paribus.data.ops.native import OPERATION_CODES
from paribus.data.ops.transfer import to_device

_BLOCK = 512  # pixels of a program
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}
# no kernel is compiled anew for particular numbers or an image's address: that takes seconds and gains nothing
_ANY = {
    "do_not_specialize": ("turn", "turns", "pixels", "height", "width", "fill_0", "fill_1", "fill_2"),
    "do_not_specialize_on_alignment": ("images", "out"),
}
_COUNTED = tuple(OPERATION_CODES[name] for name in ("contrast", "autocontrast", "equalize"))
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _SHARPNESS, _AUTOCONTRAST, _EQUALIZE, _INVERT = (
    tl.constexpr(OPERATION_CODES[name])
    for name in ("brightness", "contrast", "saturation", "hue", "sharpness", "autocontrast", "equalize", "invert")
)
_POSTERIZE, _SOLARIZE, _SOLARIZE_ADD, _AFFINE = (
    tl.constexpr(OPERATION_CODES[name]) for name in ("posterize", "solarize", "solarize_add", "affine")
)


def apply_operations(
    images: Tensor, operations: Tensor, arguments: Tensor, fill: tuple[int, ...] = (), bicubic: bool = False
) -> Tensor:
    """As native.apply_operations, which explains the arguments; operations and arguments on the host or the device."""
    images = images.contiguous()
    b, height, width, channels = images.shape
    pixels, turns = height * width, operations.shape[1]
    counted = [bool(torch.isin(x, torch.tensor(_COUNTED)).any()) if x.is_cpu else True for x in operations.unbind(1)]
    codes, numbers = to_device(images.device, operations.to(torch.int32).contiguous(), arguments.double().contiguous())
    levels = (*fill, 0, 0, 0)[:3]
    grid = (b, triton.cdiv(pixels, _BLOCK))
    size = {"CHANNELS": channels, "BLOCK": _BLOCK}
    counts, tables = torch.empty(1, dtype=torch.int64, device=images.device), images
    with torch.cuda.device(images.device) if images.is_cuda else nullcontext():  # Triton launches on the current one
        for turn in range(turns if b else 0):
            out = torch.empty_like(images)
            if counted[turn]:  # one count more than levels: the sum of the grey image
                counts = torch.zeros(b, channels * 256 + 1, dtype=torch.int64, device=images.device)
                tables = torch.empty(b, channels, 256, dtype=torch.uint8, device=images.device)
                _count[grid](images, codes, counts, turn, turns, pixels, **size, **OPTIONS)
                _build_tables[(b, channels)](codes, counts, tables, turn, turns, pixels, CHANNELS=channels, **OPTIONS)
            _change[grid](
                images, out, codes, numbers, counts, tables, turn, turns, height, width, *levels,
                BICUBIC=bicubic, **size, **OPTIONS,
            )  # fmt: skip
            images = out
    return images if turns and b else images.clone()


@triton.jit
def _grey(red, green, blue):
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


@triton.jit
def _blend(other, level, factor):
    made = other.to(tl.float32) + factor * (level - other).to(tl.float32)
    return tl.minimum(tl.maximum(made, 0.0), 255.0).to(tl.int32)


@triton.jit(**_ANY)
def _count(images, codes, counts, turn, turns, pixels, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """How often each level occurs in each channel, or the sum of the grey image, where an operation needs it."""
    image = tl.program_id(0).to(tl.int64)
    operation = tl.load(codes + image * turns + turn)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = at < pixels
    source = images + (image * pixels + at) * CHANNELS
    counts += image * (CHANNELS * 256 + 1)
    if (operation == _AUTOCONTRAST) | (operation == _EQUALIZE):
        for c in tl.static_range(CHANNELS):
            level = tl.load(source + c, here, 0).to(tl.int32)
            found = tl.histogram(level, 256, mask=here).to(tl.int64)
            tl.atomic_add(counts + c * 256 + tl.arange(0, 256), found, sem="relaxed")
    if operation == _CONTRAST:
        grey = tl.load(source, here, 0).to(tl.int32)
        if CHANNELS == 3:
            green, blue = tl.load(source + 1, here, 0).to(tl.int32), tl.load(source + 2, here, 0).to(tl.int32)
            grey = _grey(grey, green, blue)
        tl.atomic_add(counts + CHANNELS * 256, tl.sum(grey).to(tl.int64), sem="relaxed")


@triton.jit(**_ANY)
def _build_tables(codes, counts, tables, turn, turns, pixels, CHANNELS: tl.constexpr):
    """The tables of autocontrast and equalize, of one channel."""
    image, c = tl.program_id(0).to(tl.int64), tl.program_id(1)
    operation = tl.load(codes + image * turns + turn)
    if (operation == _AUTOCONTRAST) | (operation == _EQUALIZE):
        level = tl.arange(0, 256)
        count = tl.load(counts + image * (CHANNELS * 256 + 1) + c * 256 + level)
        low = tl.min(tl.where(count > 0, level, 255))
        high = tl.max(tl.where(count > 0, level, 0))
        made = level
        if high > low:
            if operation == _AUTOCONTRAST:
                scale = tl.full((), 255.0, tl.float64) / (high - low).to(tl.float64)
                stretched = level.to(tl.float64) * scale + (-low).to(tl.float64) * scale
                made = tl.minimum(tl.maximum(stretched, 0.0), 255.0).to(tl.int32)
            else:
                step = (pixels - tl.sum(tl.where(level == high, count, 0))) // 255
                before = tl.cumsum(count, 0) - count
                if step > 0:
                    made = tl.minimum((step // 2 + before) // step, 255).to(tl.int32)
        tl.store(tables + (image * CHANNELS + c) * 256 + level, made.to(tl.uint8))


@triton.jit(**_ANY)
def _change(
    images, out, codes, arguments, counts, tables, turn, turns, height, width, fill_0, fill_1, fill_2,
    BICUBIC: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """An image's operation of this turn, for a block of its pixels."""
    image = tl.program_id(0).to(tl.int64)
    pixels = height * width
    operation = tl.load(codes + image * turns + turn)
    given = arguments + (image * turns + turn) * 6
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = at < pixels
    start = images + image * pixels * CHANNELS
    to = out + (image * pixels + at) * CHANNELS
    if operation == _AFFINE:
        _move(start, to, here, at, given, height, width, fill_0, fill_1, fill_2, BICUBIC, CHANNELS)
    elif operation == _SHARPNESS:
        _sharpen(start, to, here, at, tl.load(given).to(tl.float32), height, width, CHANNELS)
    elif (CHANNELS == 3) & (operation == _HUE):
        _turn_hue(start + at * 3, to, here, tl.load(given).to(tl.int32))
    else:
        _change_levels(start + at * CHANNELS, to, here, operation, given, counts, tables, image, pixels, CHANNELS)


@triton.jit
def _change_levels(source, to, here, operation, given, counts, tables, image, pixels, CHANNELS: tl.constexpr):
    """Operations that need no other pixel; those that are none of them copy."""
    number, factor = tl.load(given).to(tl.int32), tl.load(given).to(tl.float32)
    other = tl.zeros_like(here.to(tl.int32))
    blended = (operation == _BRIGHTNESS) | (operation == _CONTRAST)
    if operation == _CONTRAST:
        total = tl.load(counts + image * (CHANNELS * 256 + 1) + CHANNELS * 256)
        other += ((2 * total + pixels) // (2 * pixels)).to(tl.int32)
    if CHANNELS == 3:
        if operation == _SATURATION:
            red, green = tl.load(source, here, 0).to(tl.int32), tl.load(source + 1, here, 0).to(tl.int32)
            other = _grey(red, green, tl.load(source + 2, here, 0).to(tl.int32))
        blended |= operation == _SATURATION
    for c in tl.static_range(CHANNELS):
        level = tl.load(source + c, here, 0).to(tl.int32)
        made = level
        if blended:
            made = _blend(other, level, factor)
        elif (operation == _AUTOCONTRAST) | (operation == _EQUALIZE):
            made = tl.load(tables + (image * CHANNELS + c) * 256 + level).to(tl.int32)
        elif operation == _INVERT:
            made = 255 - level
        elif operation == _POSTERIZE:
            made = (level >> (8 - number)) << (8 - number)
        elif operation == _SOLARIZE:
            made = tl.where(level < number, level, 255 - level)
        elif operation == _SOLARIZE_ADD:
            made = tl.where(level < 128, tl.minimum(level + number, 255), level)
        tl.store(to + c, made.to(tl.uint8), here)


@triton.jit
def _sharpen(start, to, here, at, factor, height, width, CHANNELS: tl.constexpr):
    y, x = at // width, at % width
    inner = here & (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    for c in tl.static_range(CHANNELS):
        level = tl.load(start + at * CHANNELS + c, here, 0).to(tl.int32)
        total = 4 * level
        for row in tl.static_range(3):
            for column in tl.static_range(3):
                beside = start + (at + (row - 1) * width + column - 1) * CHANNELS + c
                total += tl.load(beside, inner, 0).to(tl.int32)
        smooth = tl.where(inner, (2 * total + 13) // 26, level)
        tl.store(to + c, _blend(smooth, level, factor).to(tl.uint8), here)


@triton.jit
def _rounded(x):
    """C's round of a float: halves away from zero; x is not negative."""
    made = tl.floor(x.to(tl.float32).to(tl.float64) + 0.5)
    return tl.minimum(tl.maximum(made, 0.0), 255.0).to(tl.int32)


@triton.jit
def _turn_hue(source, to, here, shift):
    """Convert.c's rgb2hsv and hsv2rgb: floats, and doubles where a sum or product has a double constant."""
    r = tl.load(source, here, 0).to(tl.int32)
    g = tl.load(source + 1, here, 0).to(tl.int32)
    b = tl.load(source + 2, here, 0).to(tl.int32)
    most, least = tl.maximum(tl.maximum(r, g), b), tl.minimum(tl.minimum(r, g), b)
    flat = most == least
    spread = tl.where(flat, 1, most - least).to(tl.float32)
    from_r = tl.div_rn((most - r).to(tl.float32), spread)
    from_g = tl.div_rn((most - g).to(tl.float32), spread)
    from_b = tl.div_rn((most - b).to(tl.float32), spread)
    second = (2.0 + from_r.to(tl.float64) - from_b.to(tl.float64)).to(tl.float32)
    third = (4.0 + from_g.to(tl.float64) - from_r.to(tl.float64)).to(tl.float32)
    angle = tl.where(r == most, from_b - from_g, tl.where(g == most, second, third))
    sixth = angle.to(tl.float64) / 6.0 + 1.0
    angle = tl.where(sixth >= 1.0, sixth - 1.0, sixth).to(tl.float32)
    hue = tl.where(flat, 0, (angle.to(tl.float64) * 255.0).to(tl.int32))
    strength = tl.div_rn(spread, tl.maximum(most, 1).to(tl.float32))
    full = tl.where(flat, 0, (strength.to(tl.float64) * 255.0).to(tl.int32))
    place = ((hue + shift) & 255).to(tl.float64) * 6.0 / 255.0
    sector = tl.floor(place)
    part = (place - sector).to(tl.float32).to(tl.float64)
    share = tl.div_rn(full.to(tl.float32), tl.full(full.shape, 255.0, tl.float32)).to(tl.float64)
    value = most.to(tl.float64)
    p = _rounded(value * (1.0 - share))
    q = _rounded(value * (1.0 - share * part))
    t = _rounded(value * (1.0 - share * (1.0 - part)))
    s = sector.to(tl.int32) % 6
    red = tl.where((s == 0) | (s == 5), most, tl.where(s == 1, q, tl.where(s == 4, t, p)))
    green = tl.where((s == 1) | (s == 2), most, tl.where(s == 0, t, tl.where(s == 3, q, p)))
    blue = tl.where((s == 3) | (s == 4), most, tl.where(s == 2, t, tl.where(s == 5, q, p)))
    tl.store(to, tl.where(full == 0, most, red).to(tl.uint8), here)
    tl.store(to + 1, tl.where(full == 0, most, green).to(tl.uint8), here)
    tl.store(to + 2, tl.where(full == 0, most, blue).to(tl.uint8), here)


@triton.jit
def _cubic(a, b, c, d, share):
    """libImaging/Geometry.c's BICUBIC, in its order."""
    first = c - a
    second = 2.0 * (a - b) + c - d
    third = -a + b - c + d
    return b + share * (first + share * (second + share * third))


@triton.jit
def _load_level(line, x, here, width, CHANNELS: tl.constexpr):
    return tl.load(line + tl.minimum(tl.maximum(x, 0), width - 1) * CHANNELS, here, 0).to(tl.float64)


@triton.jit
def _along(start, y, left, dx, here, height, width, BICUBIC: tl.constexpr, CHANNELS: tl.constexpr):
    """One row's value at `left` + dx."""
    line = start + tl.minimum(tl.maximum(y, 0), height - 1) * width * CHANNELS
    b = _load_level(line, left, here, width, CHANNELS)
    c = _load_level(line, left + 1, here, width, CHANNELS)
    if BICUBIC:
        a = _load_level(line, left - 1, here, width, CHANNELS)
        d = _load_level(line, left + 2, here, width, CHANNELS)
        return _cubic(a, b, c, d, dx)
    else:
        return b + (c - b) * dx


@triton.jit
def _move(
    start, to, here, at, given, height, width, fill_0, fill_1, fill_2, BICUBIC: tl.constexpr, CHANNELS: tl.constexpr
):
    x, y = (at % width).to(tl.float64) + 0.5, (at // width).to(tl.float64) + 0.5
    at_x = tl.load(given) * x + tl.load(given + 1) * y + tl.load(given + 2)
    at_y = tl.load(given + 3) * x + tl.load(given + 4) * y + tl.load(given + 5)
    inside = (at_x >= 0) & (at_x < width) & (at_y >= 0) & (at_y < height)
    at_x -= 0.5
    at_y -= 0.5
    left, top = tl.floor(at_x), tl.floor(at_y)
    dx, dy = at_x - left, at_y - top
    read, i, j = here & inside, left.to(tl.int32), top.to(tl.int32)
    for channel in tl.static_range(CHANNELS):
        from_ = start + channel
        b = _along(from_, j, i, dx, read, height, width, BICUBIC, CHANNELS)
        c = _along(from_, j + 1, i, dx, read, height, width, BICUBIC, CHANNELS)
        if BICUBIC:
            a = _along(from_, j - 1, i, dx, read, height, width, BICUBIC, CHANNELS)
            d = _along(from_, j + 2, i, dx, read, height, width, BICUBIC, CHANNELS)
            value = _cubic(a, b, c, d, dy)
        else:
            value = b + (c - b) * dy
        level = tl.minimum(tl.maximum(value, 0.0), 255.0).to(tl.int32)
        fill = fill_0 if channel == 0 else (fill_1 if channel == 1 else fill_2)
        tl.store(to + channel, tl.where(inside, level, fill).to(tl.uint8), here)
