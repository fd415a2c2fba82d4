"""boxes.csv: what is read, what is refused, and that a box moves as the pixels of its image do."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paribus.core.errors import ConfigError
from paribus.data.loaders.decode_batch import place_center, resize_center_crop
from paribus.data.trees.boxes import BOXES_FILE, match_boxes, place_boxes, read_boxes
from paribus.data.trees.decoding import place_square, read_image_size, resize_and_center_crop

SIZES = [(64, 64), (200, 90), (90, 201), (33, 47), (128, 127)]


def written(folder: Path, *lines: str) -> Path:
    (folder / BOXES_FILE).write_text("\n".join(lines) + "\n")
    return folder


def test_a_box_is_where_its_edges_are(tmp_path: Path) -> None:
    assert read_boxes(tmp_path) == {}
    tree = written(tmp_path, "path,x0,y0,x1,y1", "train/a/1.png,0,22,63,60", 'val/b/"odd".png,5,5,5,5')
    found = read_boxes(tree)
    assert found == {"train/a/1.png": (0, 22, 64, 61), 'val/b/"odd".png': (5, 5, 6, 6)}
    boxes = match_boxes(found, ["train/a/2.png", "train/a/1.png"])
    assert np.isnan(boxes[0]).all()
    assert boxes[1].tolist() == [0, 22, 64, 61]
    assert match_boxes(found, []).shape == (0, 4)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["path,x,y,w,h"], r"boxes\.csv: its first line has no x0, y0, x1, y1"),
        (["path,x0,y0,x1,y1", "a,1,2,3"], r"line 2: found 1,2,3,; a line is path,x0,y0,x1,y1"),
        (["path,x0,y0,x1,y1", "a,1,2,3,4", "b,1,2,x,4"], r"line 3: found 1,2,x,4"),
        (["path,x0,y0,x1,y1", "a,4,2,3,4"], r"line 2: found 4,2,3,4"),
        (["path,x0,y0,x1,y1", "a,-1,2,3,4"], r"line 2: found -1,2,3,4"),
        (["path,x0,y0,x1,y1", "a,1,2,inf,4"], r"line 2: found 1,2,inf,4"),
        (["path,x0,y0,x1,y1", "a,1,2,nan,4"], r"line 2: found 1,2,nan,4"),
        (["path,x0,y0,x1,y1", "a,1,2,3,4", "a,1,2,3,5"], r"line 3: a second box of a; one is read"),
    ],
)
def test_what_is_no_box_is_refused_by_its_line(tmp_path: Path, lines: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_boxes(written(tmp_path, *lines))


def white(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = 255
    return Image.fromarray(pixels)


def edges(pixels: np.ndarray) -> list[float]:
    """Of what is at least half white, to a part of a pixel: the sum of the brightest row and column is its length."""
    bright = np.asarray(pixels)[:, :, 0] / 255
    across, down = bright.max(0), bright.max(1)
    found = []
    for line in (across, down):
        inside = np.flatnonzero(line >= 0.5)
        found += [inside[0], inside[-1] + 1]
    return [found[0], found[2], found[1], found[3]]


def largest_error(shift: float = 0.0) -> float:
    """Between where boxes are said to be and where their pixels are, in pixels of the crop."""
    worst = 0.0
    for width, height in SIZES:
        w, h = width // 2, height // 2
        box = (w - w // 3, h - h // 4, w + w // 4, h + h // 3)
        image = white((width, height), box)
        for crop, placement, side in (
            (resize_center_crop(image, 40, 0.875, "bilinear"), place_center(width, height, 40, 0.875), 40),
            (resize_center_crop(image, 40, 1.0, "bilinear"), place_center(width, height, 40, 1.0), 40),
            (np.asarray(resize_and_center_crop(image, 48)), place_square(width, height, 48), 48),
        ):
            said = place_boxes(np.array([box], np.float64), np.array([(width, height)]), [placement], side) + shift
            worst = max(worst, float(np.abs(said[0] - edges(crop)).max()))
    return worst


def test_a_box_moves_as_its_pixels_do() -> None:
    assert largest_error() <= 0.75


def test_negative_control_a_box_that_is_elsewhere_is_noticed() -> None:
    with pytest.raises(AssertionError):
        assert largest_error(shift=1.0) <= 0.75


def test_what_is_outside_of_the_crop_is_no_box() -> None:
    boxes = np.array([[0, 0, 20, 10], [0, 0, 60, 10], [20, 0, 90, 10], [np.nan] * 4])
    placed = place_boxes(boxes, np.array([(100, 50)] * 4), [place_square(100, 50, 50)] * 4, 50)
    assert np.isnan(placed[0]).all()
    assert placed[1:3].tolist() == [[0, 0, 35, 10], [0, 0, 50, 10]]
    assert np.isnan(placed[3]).all()


def test_an_images_size_is_in_its_head(tmp_path: Path) -> None:
    white((31, 17), (0, 0, 3, 3)).save(tmp_path / "a.png")
    assert read_image_size(tmp_path / "a.png") == (31, 17)
    (tmp_path / "b.png").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"b\.png: no JPEG"):
        read_image_size(tmp_path / "b.png")
