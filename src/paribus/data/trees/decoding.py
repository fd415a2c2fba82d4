"""Decodes an image file to pixels of 3, 1 or 4 channels, the same way for packs and for folders. Needs only Pillow:
worker processes of `paribus data prepare` start without torch.

The rules, for every file: the first frame, in its stored orientation (EXIF's is not applied: torchvision and timm do
not apply it either, and ImageNet's published results rest on that), alpha dropped and grey repeated in three channels
as Pillow's `convert("RGB")` does, CMYK by Pillow's formula. 16-bit grey keeps its high byte, as Pillow does for 16-bit
colour; `convert` would clip it at 255. Pillow itself turns a TIFF by its orientation, in torchvision and timm too.

One channel is Pillow's `convert("L")` of these RGB pixels (ITU-R 601), which gives grey back as it was. Four are the
RGB pixels and the file's alpha, 255 where it has none. Their Pillow mode is RGBX, not RGBA: Pillow resizes RGBA with
the colours multiplied by alpha, and the crops of a batch know of no alpha.
"""

import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image, features

from paribus.core.errors import ConfigError

# case-insensitive
EXTENSIONS = (
    *(".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # by content; others of Pillow may start programs (EPS)
_BITS_PER_SAMPLE = 258  # a tag of TIFF
_MAX_PIXELS = 2**27  # after the resize, before the crop; Pillow itself refuses to open images larger than about this
CHANNELS = (1, 3, 4)  # grey, RGB, RGB and alpha
DECODE_RULE = (
    "first frame; EXIF orientation not applied; alpha dropped; 16-bit grey by its high byte; else Pillow's RGB"
)
DECODE_RULES = {
    3: DECODE_RULE,
    1: DECODE_RULE + ", made grey by Pillow's L",
    4: DECODE_RULE.replace("alpha dropped", "alpha as a fourth channel, 255 where there is none"),
}
RESIZE_RULE = (
    "shorter side by Pillow's bilinear resize (antialias), the longer in proportion, rounded down; centre crop; "
    "an image of the size is kept as it is"
)


LOW_BYTES_ONLY = (
    "paribus_low_bytes_only"  # in `info` of a decoded image: it had 16 bits, of which the high byte is all 0
)


class BadImage(ConfigError):
    """An image that cannot be read; the message names the file and the reason."""


class Placement(NamedTuple):
    """How an image becomes a square: resized to width × height, of which the crop begins at left, top."""

    width: int
    height: int
    left: int
    top: int


def decode_image(path: str | Path, display_name: str = "", channels: int = 3) -> Image.Image:
    """The image in mode RGB, or L or RGBX for other channels. display_name: its name in messages, else the path. Raises
    BadImage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF, odd transparency: neither changes a pixel here
            with Image.open(path, formats=_FORMATS) as image:
                image.load()
                return to_channels(image, channels)
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, struct.error, ValueError and more
        raise BadImage(f"{display_name or path}: {_explain_error(error)}") from error


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """An image of any mode in mode L, RGB or RGBX, by the rules above. Raises ValueError if its pixels have no known
    range."""
    if channels == 3:
        return to_rgb(image)
    if channels == 1:
        return to_rgb(image).convert("L")
    with_alpha = _to_rgba(image)
    made = Image.frombytes("RGBX", with_alpha.size, with_alpha.tobytes())
    made.info |= {key: value for key, value in with_alpha.info.items() if key == LOW_BYTES_ONLY}
    return made


def _to_rgba(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or ("transparency" in image.info and image.mode in ("P", "RGB", "L")):
        return image.convert("RGBA")
    return to_rgb(image).convert("RGBA")


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode in mode RGB, by the rules above. Raises ValueError if its pixels have no known range."""
    image.load()
    if image.mode == "RGB":
        return image.copy()  # detached from the file
    if image.mode.startswith("I;16"):
        steps = 16 if getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE) == (12,) else 256
        whole = image if image.mode == "I;16" else image.convert("I")  # `point` knows no other byte order
        return _mark_if_black(whole.point(lambda value: value / steps).convert("RGB"), whole)
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits, which Pillow reads into 32
        return _mark_if_black(image.point(lambda value: value / 256).convert("RGB"), image)
    if image.mode[0] in "IF":
        raise ValueError(f"pixels of mode {image.mode} have no known range; store them with 8 or 16 bits")
    if image.mode == "La":
        return image.convert("LA").convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _mark_if_black(made: Image.Image, deep: Image.Image) -> Image.Image:
    """made: the high bytes of `deep`. Files that hold 8 or 10 bits of 16 are common, and look like any other file."""
    if not made.getbbox() and deep.getextrema() != (0, 0):
        made.info[LOW_BYTES_ONLY] = True
    return made


def _explain_error(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "no JPEG, PNG, WebP, BMP, GIF, TIFF or PPM by its content"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"does not decode ({error or type(error).__name__})"


def decode_square(path: str | Path, size: int, display_name: str = "", channels: int = 3) -> Image.Image:
    """The image as a pack stores it, `size` pixels a side. Raises BadImage."""
    image = decode_image(path, display_name, channels)
    if size**2 * max(image.size) > _MAX_PIXELS * min(image.size):
        raise BadImage(
            f"{display_name or path}: {image.width}×{image.height} pixels, too long and thin to be made {size} high"
        )
    return resize_and_center_crop(image, size)


def place_square(width: int, height: int, size: int) -> Placement:
    """Of `resize_and_center_crop`, for an image of this size."""
    short = min(width, height)
    width, height = size * width // short, size * height // short
    return Placement(width, height, round((width - size) / 2), round((height - size) / 2))


def resize_and_center_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size`, then crop the centre; as torchvision's Resize and CenterCrop."""
    if image.size == (size, size):
        return image
    width, height, left, top = place_square(*image.size, size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + size, top + size))


def read_image_size(path: str | Path) -> tuple[int, int]:
    """Width and height, from the file's head alone. Raises BadImage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                return image.size
    except Exception as error:  # as in decode_image
        raise BadImage(f"{path}: {_explain_error(error)}") from error


def decoder_versions() -> dict[str, str]:
    """Versions of the decoders on this machine. Another libjpeg may give other pixels."""
    import PIL

    turbo = features.check_feature("libjpeg_turbo")
    return {
        "pillow": PIL.__version__,
        "libjpeg": f"turbo {features.version_feature('libjpeg_turbo')}" if turbo else str(features.version("jpg")),
        "webp": str(features.version("webp")),
        "zlib": str(features.version("zlib")),
    }
