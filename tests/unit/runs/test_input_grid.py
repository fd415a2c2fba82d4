"""The picture of training inputs: captions, colours, sizes."""

from pathlib import Path

import pytest
import torch

from paribus.runs.input_grid import denormalize, format_caption, write_image_grid


@pytest.mark.parametrize(
    ("weights", "names", "text"),
    [
        ([0.0, 1.0, 0.0], (), "#1"),
        ([0.0, 1.0, 0.0], ("cat", "dog", "ship"), "dog"),
        ([0.63, 0.0, 0.37], ("cat", "dog", "ship"), "cat 0.63 + ship 0.37"),
        ([0.37, 0.0, 0.63], (), "#2 0.63 + #0 0.37"),
        ([0.25, 0.25, 0.2, 0.3], (), "#3 0.30 + #0 0.25 + #1 0.25 + …"),
    ],
)
def test_captions_name_the_heaviest_classes_first(weights: list[float], names: tuple[str, ...], text: str) -> None:
    assert format_caption(weights, names) == text


def test_visible_undoes_a_normalisation() -> None:
    pixels = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    inputs = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.equal(denormalize(inputs, mean, std), pixels.permute(0, 2, 3, 1))
    assert denormalize(torch.zeros(2, 1, 4, 4), (0.5,), (0.5,)).shape == (2, 4, 4, 1)
    assert denormalize(torch.zeros(2, 7, 4, 4), (0.5,) * 7, (0.5,) * 7).shape == (2, 4, 4, 1)


def test_the_grid_shows_each_image_enlarged(tmp_path: Path) -> None:
    from PIL import Image

    colours = [torch.full((8, 8, 3), value, dtype=torch.uint8) for value in (40, 90, 200)]
    write_image_grid(colours, ["a", "b", "a long caption that widens the cells of all the images"], tmp_path / "x.png")
    picture = Image.open(tmp_path / "x.png").convert("L")
    counts = picture.histogram()
    for value in (40, 90, 200):
        assert counts[value] >= 128 * 128
