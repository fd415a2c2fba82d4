"""Each corruption of one image again, pixel by pixel or by SciPy and Pillow, from what was drawn for it.

image: (h, w, c) float64, multiples of 1/255. draw: name and shape -> the numbers in (0, 1) that this image is given.
Results are not yet cut to 0–1 and to 8 bits.
"""

import colorsys
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage, stats

Draw = Callable[..., Any]


def gaussian_noise(image, draw: Draw, deviation):
    return image + channels_last(stats.norm.ppf(draw("noise", *channels_first(image).shape))) * deviation


def speckle_noise(image, draw: Draw, deviation):
    return image * (1 + channels_last(stats.norm.ppf(draw("noise", *channels_first(image).shape))) * deviation)


def shot_noise(image, draw: Draw, photons):
    u = channels_last(draw("photons", *channels_first(image).shape))
    return stats.poisson.ppf(u, image * photons) / photons


def impulse_noise(image, draw: Draw, share):
    u, out = channels_last(draw("hit", *channels_first(image).shape)), image.copy()
    for at in np.ndindex(*image.shape):
        if u[at] < share:
            out[at] = 1.0 if u[at] < share / 2 else 0.0
    return out


def gaussian_blur(image, draw: Draw, sigma):
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=4.0)


def defocus_blur(image, draw: Draw, radius, edge):
    reach, taps = (8, 1) if radius <= 8 else (int(radius), 2)
    disk = np.zeros((2 * reach + 1, 2 * reach + 1))
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            disk[y + reach, x + reach] = x * x + y * y <= radius * radius
    gauss = np.array([math.exp(-k * k / (2 * edge * edge)) for k in range(-taps, taps + 1)])
    kernel = ndimage.correlate(disk / disk.sum(), np.outer(gauss, gauss) / gauss.sum() ** 2, mode="mirror")
    return np.stack([ndimage.correlate(image[..., k], kernel, mode="mirror") for k in range(image.shape[2])], 2)


def glass_blur(image, draw: Draw, sigma, farthest, passes):
    height, width, _ = image.shape
    x = to_bytes(gaussian_blur(image, draw, sigma))
    for k in range(passes):
        shifts = draw(f"shift{k}", 2, height, width)
        for h in range(height - farthest, farthest, -1):
            for w in range(width - farthest, farthest, -1):
                dy, dx = (math.floor(shifts[axis, h, w] * 2 * farthest) - farthest for axis in (0, 1))
                x[h, w] = x[h + dy, w + dx]
    return gaussian_blur(x / 255, draw, sigma)


def motion_blur(image, draw: Draw, radius, sigma):
    return moved(image, draw("angle", 1)[0] * 90 - 45, radius, sigma)


def moved(image, degrees, radius, sigma):
    height, width, _ = image.shape
    reach = 2 * math.ceil(radius) + 1
    weights = [stats.norm.pdf(k, scale=sigma) for k in range(reach)]
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    wide, out = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge"), np.zeros_like(image)
    for k, weight in enumerate(weights):
        y, x = reach + math.ceil(k * sin - 0.5), reach + math.ceil(k * cos - 0.5)
        out += weight / sum(weights) * wide[y : y + height, x : x + width]
    return np.floor(out * 255 + 0.5001) / 255


def zoomed(image, factor):
    n = image.shape[0]
    part = math.ceil(n / factor)
    first = (n - part) // 2
    # "nearest" for rounding errors of the last place alone
    large = ndimage.zoom(
        image[first : first + part, first : first + part], (factor, factor, 1), order=1, mode="nearest"
    )
    first = (large.shape[0] - n) // 2
    return large[first : first + n, first : first + n]


def zoom_blur(image, draw: Draw, count, step):
    return np.mean([image, *(zoomed(image, 1 + k * step) for k in range(count))], 0)


def snow(image, draw: Draw, mean, deviation, factor, threshold, radius, sigma, share):
    flakes = zoomed(mean + deviation * stats.norm.ppf(draw("flakes", 1, *image.shape[:2]))[0][..., None], factor)
    flakes[flakes < threshold] = 0
    flakes = moved(to_bytes(flakes) / 255, draw("angle", 1)[0] * 90 - 135, radius, sigma)
    grey = image if image.shape[2] == 1 else image @ np.array([[0.299], [0.587], [0.114]])
    white = np.maximum(image, grey * 1.5 + 0.5)
    return share * image + (1 - share) * white + flakes + np.rot90(flakes, 2)


def fog(image, draw: Draw, weight, decay):
    size = 2 ** math.ceil(math.log2(max(image.shape[:2])))
    wobble, cloud = 2 * draw("cloud", size, size) - 1, np.zeros((size, size))
    step, scale = size, 100.0
    while step > 1:
        half = step // 2
        squares = [(y, x) for y in range(half, size, step) for x in range(half, size, step)]
        diamonds = [(y, x) for y in range(0, size, half) for x in range(0, size, half) if (y // half + x // half) % 2]
        for points, around in (
            (squares, ((-half, -half), (-half, half), (half, -half), (half, half))),
            (diamonds, ((-half, 0), (half, 0), (0, -half), (0, half))),
        ):
            for y, x in points:
                near = [cloud[(y + dy) % size, (x + dx) % size] for dy, dx in around]
                cloud[y, x] = sum(near) / 4 + scale**2 * wobble[y, x]
        step, scale = half, scale / decay
    cloud = ((cloud - cloud.min()) / (cloud.max() - cloud.min()))[: image.shape[0], : image.shape[1], None]
    return (image + weight * cloud) * image.max() / (image.max() + weight)


def brightness(image, draw: Draw, more):
    return by_hsv(image, lambda h, s, v: (h, s, min(v + more, 1.0)))


def saturate(image, draw: Draw, factor, more):
    if image.shape[2] == 1:
        return image
    return by_hsv(image, lambda h, s, v: (h, min(s * factor + more, 1.0), v))


def contrast(image, draw: Draw, factor):
    return image * factor + image.mean((0, 1)) * (1 - factor)


def elastic_transform(image, draw: Draw, size, sigma, jitter):
    side, (height, width, channels) = min(image.shape[:2]), image.shape
    reach = side // 3
    corners = np.array([[1, 1], [1, -1], [-1, -1]]) * reach + np.array([width // 2, height // 2])
    moves = (2 * draw("corners", 3, 2) - 1) * jitter * side
    back = np.linalg.solve(np.c_[corners + moves, np.ones(3)], corners)  # (x, y, 1) @ back: where it comes from
    y, x = np.mgrid[:height, :width].astype(float)
    from_x, from_y = (np.stack([x, y, np.ones_like(x)], 2) @ back).transpose(2, 0, 1)
    layers = [ndimage.map_coordinates(image[..., k], [from_y, from_x], order=1, mode="mirror") for k in range(channels)]
    shifts = 2 * draw("shifts", 2, height, width) - 1
    down, along = (ndimage.gaussian_filter(s, sigma * side, mode="reflect", truncate=3.0) * size * side for s in shifts)
    return np.stack(
        [ndimage.map_coordinates(layer, [y + down, x + along], order=1, mode="reflect") for layer in layers], 2
    )


def pixelate(image, draw: Draw, share):
    height, width, _ = image.shape
    small = to_pillow(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return from_pillow(small.resize((width, height), Image.Resampling.BOX), image)


def jpeg_compression(image, draw: Draw, quality):
    file = io.BytesIO()
    to_pillow(image).save(file, "JPEG", quality=quality)
    return from_pillow(Image.open(file), image)


def by_hsv(image, change):
    """Through HSV and back, by the standard library."""
    out = np.empty_like(image)
    for at in np.ndindex(*image.shape[:2]):
        pixel = image[at] if image.shape[2] == 3 else image[at].repeat(3)
        out[at] = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel)))[: image.shape[2]]
    return out


def to_bytes(image):
    return np.floor(np.clip(image, 0, 1) * 255 + 1e-4).astype(np.uint8)


def to_pillow(image) -> Image.Image:
    pixels = np.rint(image * 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def from_pillow(image: Image.Image, like):
    return np.asarray(image).reshape(like.shape) / 255


def channels_first(image):
    return image.transpose(2, 0, 1)


def channels_last(values):
    return values.transpose(1, 2, 0)
