"""Images of every mode, and those that do not decode."""

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from helpers.image_trees import picture
from paribus.data.trees.decoding import (
    CHANNELS,
    EXTENSIONS,
    BadImage,
    decode_image,
    decode_square,
    resize_and_center_crop,
)

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_whatever_the_mode_the_image_is_rgb(tmp_path: Path) -> None:
    """Lossless files: what comes out is known number by number."""
    rgb = np.asarray(picture(0, 16, 16))
    tripled = np.repeat(GREY[..., None], 3, 2)
    alpha = np.dstack([rgb, GREY])
    for name, image, expected in (
        ("rgb.png", Image.fromarray(rgb), rgb),
        ("rgb.bmp", Image.fromarray(rgb), rgb),
        ("grey.png", Image.fromarray(GREY), tripled),
        ("alpha.png", Image.fromarray(alpha), rgb),
        ("grey_alpha.png", Image.fromarray(np.dstack([GREY, 255 - GREY]), "LA"), tripled),
        ("deep.png", Image.fromarray(GREY.astype(np.uint16) * 256 + 77), tripled),
        ("bits.png", Image.fromarray(GREY > 99), np.repeat((GREY > 99)[..., None] * np.uint8(255), 3, 2)),
    ):
        found = decode_image(saved(image, tmp_path / name))
        assert found.mode == "RGB"
        assert np.array_equal(np.asarray(found), expected), name
    lossless = decode_image(saved(Image.fromarray(rgb), tmp_path / "x.webp", lossless=True))
    assert np.array_equal(np.asarray(lossless), rgb)


def test_palettes_cmyk_and_animations(tmp_path: Path) -> None:
    plain = picture(1, 16, 16).quantize(8)
    expected = np.asarray(plain.convert("RGB"))
    assert np.array_equal(np.asarray(decode_image(saved(plain, tmp_path / "p.png"))), expected)
    clear = saved(plain, tmp_path / "t.png", transparency=bytes([0, 128, 255]))
    assert np.array_equal(np.asarray(decode_image(clear)), expected)  # alpha is dropped, whatever it hides
    cmyk = saved(picture(2, 16, 16).convert("CMYK"), tmp_path / "c.jpg", quality=95)
    with Image.open(cmyk) as image:
        assert image.mode == "CMYK"
        assert np.array_equal(np.asarray(decode_image(cmyk)), np.asarray(image.convert("RGB")))
    first, second = picture(3, 16, 16).quantize(8), picture(4, 16, 16).quantize(8)
    moving = saved(first, tmp_path / "m.gif", save_all=True, append_images=[second])
    assert np.array_equal(np.asarray(decode_image(moving)), np.asarray(first.convert("RGB")))


@pytest.mark.parametrize("ending", [".tif", ".tiff", ".ppm", ".pnm", ".gif", ".jfif", ".jpe", ".JPG"])
def test_every_ending_that_is_listed_is_read(tmp_path: Path, ending: str) -> None:
    assert ending.lower() in EXTENSIONS
    image = picture(5, 64, 64)
    found = decode_image(saved(image, tmp_path / f"x{ending}"))
    assert abs(np.asarray(found).astype(int) - np.asarray(image)).mean() < (20 if ending == ".gif" else 5)


def tiff(values: np.ndarray, bits: int, sample_format: int = 1) -> bytes:
    """A grey TIFF of one strip, (h, w) numbers of so many bits. sample_format: 1 unsigned, 2 signed, 3 float."""
    height, width = values.shape
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        first, second = pairs[:, 0], pairs[:, 1]
        strip = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
    else:
        strip = values.tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(strip)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in {**tags, 339: sample_format}.items()]
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(strip))
        + strip
        + struct.pack("<H", len(entries))
        + b"".join(entries)
        + struct.pack("<I", 0)
    )


def test_the_high_bits_of_grey_are_kept_whatever_the_file(tmp_path: Path) -> None:
    tripled = np.repeat(GREY[..., None], 3, 2)
    deep = GREY.astype(np.uint16) * 256 + 200
    for ending in (".png", ".tif", ".pgm"):
        found = decode_image(saved(Image.fromarray(deep), tmp_path / f"deep{ending}"))
        assert np.array_equal(np.asarray(found), tripled), ending
    for name, content in (
        ("le16.tif", tiff(deep, 16)),
        ("12.tif", tiff(GREY.astype(np.uint16) * 16 + 9, 12)),
        ("half.pgm", b"P5 16 16 32767 " + (GREY.astype(">u2") * 128 + 60).astype(">u2").tobytes()),
    ):
        (tmp_path / name).write_bytes(content)
        found = np.asarray(decode_image(tmp_path / name)).astype(int)
        assert abs(found - tripled).max() <= (1 if name == "half.pgm" else 0), name


@pytest.mark.parametrize(("dtype", "bits", "kind"), [(np.int16, 16, 2), (np.int32, 32, 2), (np.float32, 32, 3)])
def test_numbers_without_a_known_range_are_refused(tmp_path: Path, dtype: Any, bits: int, kind: int) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(GREY.astype(dtype), bits, kind))
    with pytest.raises(
        BadImage, match=r"x\.tif: does not decode \(pixels of mode [IF] have no known range; store them"
    ):
        decode_image(path)


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(picture(0, 30, 40), tmp_path / "turned.jpg", exif=exif)
    assert decode_image(path).size == (40, 30)
    assert np.array_equal(np.asarray(decode_image(path)), np.asarray(Image.open(path)))


def damaged(kind: str) -> bytes:
    buffer = io.BytesIO()
    picture(0, 64, 64).save(buffer, "PNG" if kind == "png" else "JPEG")
    whole = buffer.getvalue()
    return {
        "empty": b"",
        "text": b"not found",
        "cut": whole[: len(whole) // 2],
        "head": whole[:20],
        "png": whole[:60] + b"\0" * 40 + whole[100:],
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "head", "png", "eps"])
def test_what_does_not_decode_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.JPEG"
    path.write_bytes(damaged(kind))
    with pytest.raises(BadImage) as caught:
        decode_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(BadImage, match=r"^train/x.JPEG: "):
        decode_image(path, "train/x.JPEG")
    with pytest.raises(BadImage, match="No such file"):
        decode_image(tmp_path / "gone.png")


def test_damaged_exif_is_no_damage(tmp_path: Path) -> None:
    path = saved(picture(0, 32, 32), tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(path).size == (32, 32)


def torchvisions(image: Image.Image, size: int) -> Image.Image:
    return v2.Compose([v2.Resize(size), v2.CenterCrop(size)])(image)


def without_rounding(image: Image.Image, size: int) -> Image.Image:
    """The negative control: the crop one pixel off where the margin is odd."""
    short = min(image.size)
    width, height = size * image.width // short, size * image.height // short
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = -(-(width - size) // 2), -(-(height - size) // 2)
    return image.crop((left, top, left + size, top + size))


SHAPES = [(30, 40), (41, 30), (16, 16), (99, 16), (16, 37), (9, 5), (500, 333), (16, 17)]


@pytest.mark.parametrize(("way", "same"), [(resize_and_center_crop, True), (without_rounding, False)])
def test_packed_form_is_torchvisions_resize_and_centre_crop(
    way: Callable[[Image.Image, int], Image.Image], same: bool
) -> None:
    images = [picture(i, *shape) for i, shape in enumerate(SHAPES)]
    pairs = [(way(image, 16), torchvisions(image, 16)) for image in images]
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs) is same


def test_an_image_of_the_size_stays_and_a_needle_is_refused(tmp_path: Path) -> None:
    image = picture(0, 16, 16)
    path = saved(image, tmp_path / "x.png")
    assert decode_square(path, 16).tobytes() == image.tobytes()
    needle = saved(Image.new("RGB", (20_000, 1)), tmp_path / "needle.png")
    with pytest.raises(BadImage, match="too long and thin"):
        decode_square(needle, 160)


def test_the_channels_of_every_kind_of_file(tmp_path: Path) -> None:
    """What becomes of grey, RGB, RGBA, transparent palettes and 16-bit grey under 1, 3 and 4 channels."""
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (5, 7, 4), dtype=np.uint8)
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    grey = rgb[..., :1]
    opaque = np.full_like(grey, 255)
    luma = np.asarray(Image.fromarray(rgb).convert("L"))[..., None]
    deep = grey.astype(np.uint16)[..., 0] * 256 + 77
    three = np.repeat(grey, 3, 2)
    palette = Image.fromarray(rgb).quantize(8)
    palette.info["transparency"] = 3
    of_palette = np.asarray(palette.convert("RGB"))
    see_through = np.where(np.asarray(palette)[..., None] == 3, 0, 255)
    files: dict[str, tuple[Image.Image, Any, Any, Any]] = {
        "grey": (Image.fromarray(grey[..., 0]), grey, three, opaque),
        "rgb": (Image.fromarray(rgb), luma, rgb, opaque),
        "rgba": (Image.fromarray(rgba), luma, rgb, alpha),
        "grey and alpha": (Image.fromarray(np.concatenate((grey, alpha), 2)), grey, three, alpha),
        "16 bits": (Image.fromarray(deep), grey, three, opaque),
        "palette": (palette, np.asarray(palette.convert("RGB").convert("L"))[..., None], of_palette, see_through),
    }
    for name, (image, one, colours, fourth) in files.items():
        path = saved(image, tmp_path / f"{name}.png")
        got = {channels: np.asarray(decode_image(path, channels=channels)) for channels in CHANNELS}
        assert np.array_equal(got[1], one[..., 0]), name
        assert np.array_equal(got[3], colours), name
        assert np.array_equal(got[4], np.concatenate((colours, fourth), 2)), name


def test_alpha_is_resized_as_a_channel_of_its_own(tmp_path: Path) -> None:
    """Not as Pillow resizes RGBA, with the colours multiplied by alpha: crops in batches do not."""
    rgba = np.random.default_rng(0).integers(0, 256, (40, 40, 4), dtype=np.uint8)
    path = saved(Image.fromarray(rgba), tmp_path / "x.png")
    got = np.asarray(decode_square(path, 16, channels=4))
    each = [np.asarray(resize_and_center_crop(Image.fromarray(rgba[..., k].copy()), 16)) for k in range(4)]
    assert np.array_equal(got, np.stack(each, 2))
    assert not np.array_equal(got, np.asarray(resize_and_center_crop(Image.fromarray(rgba), 16)))
