"""The pictures of docs/pictures/ are what scripts/pictures makes of the code as it is, are small, and tell no path.

Drawn files are made again and compared by their bytes; what other libraries encode, by the text, the pixels or the
digest of what it was made from. report.png needs Chromium to be made, not to be checked.
"""

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from paribus.cli.tree import find
from paribus.core.errors import ConfigError
from paribus.core.streams import key64
from paribus.recipe.configs import list_options
from paribus.techniques import erasing

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"
LIMITS = {  # KiB
    "how_it_works.svg": 60,
    "architecture.svg": 60,
    "terminal_panel.svg": 60,
    "terminal_bar.svg": 60,
    "mixed_images.webp": 250,
    "report.png": 200,
    "report_dark.png": 200,
}
PRIVATE = re.compile(rb"/(home|root|Users|work|tmp|usr|mnt)/|https?://(?!www\.w3\.org/2000/svg)|file:|[\w.]@[\w.]")
LOSS = 1.9  # grey levels: the encoder leaves up to 1.6 (measured), noise of another key at least 2.0
STALE = "is stale: python scripts/pictures"


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    """scripts/pictures with its modules; the import leaves the path as it was."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import pictures
        import pictures.architecture
        import pictures.how_it_works
        import pictures.mixed_images
        import pictures.report
        import pictures.terminal
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return pictures


def test_every_picture_is_there_is_small_and_tells_nothing_of_a_machine() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(LIMITS)
    for name, limit in LIMITS.items():
        content = (FOLDER / name).read_bytes()
        assert len(content) <= limit * 1024, f"{name} has {len(content)} bytes"
        told = content if name.endswith(".svg") else describe_file(FOLDER / name)
        assert (found := PRIVATE.search(told)) is None, f"{name} tells {found}"
        if name.endswith(".svg"):
            ElementTree.fromstring(content)


def describe_file(path: Path) -> bytes:
    """What an image says beside its pixels."""
    with Image.open(path) as picture:
        return repr((picture.info, dict(picture.getexif()))).encode()


def test_negative_control_paths_and_addresses_are_found() -> None:
    folders = [f"in /{name}/x".encode() for name in ("home", "work", "tmp", "Users")]
    for told in (*folders, b"url('https://host/font')", b"me@host"):
        assert PRIVATE.search(told), told
    assert not PRIVATE.search(b'xmlns="http://www.w3.org/2000/svg" runs/quickstart-s0')


def test_drawn_pictures_are_what_the_code_draws(pictures: ModuleType) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    drawn = {"how_it_works.svg": pictures.how_it_works.draw(), "architecture.svg": pictures.architecture.draw(project)}
    for name, text in drawn.items():
        assert (FOLDER / name).read_text() == text, f"{name} {STALE}"
    swapped = pictures.architecture.draw(project.replace('  "methods",\n  "models",', '  "models",\n  "methods",'))
    assert swapped != drawn["architecture.svg"]  # a changed contract changes the picture
    with pytest.raises(ValueError, match="telescope"):
        pictures.architecture.draw(project.replace('"methods",', '"methods",\n  "telescope",'))


def test_what_the_picture_of_paribus_names_exists(pictures: ModuleType) -> None:
    for key, value in pictures.how_it_works.RECIPE.items():
        assert value in list_options(key), f"{key}: {value}"
    commands = [command for _, said in pictures.how_it_works.STEPS.values() for command in said]
    assert {command.split()[0] for command in commands} == {"paribus"}
    for command in commands:
        assert find(command.split()[1:])[1] == [], command
    with pytest.raises(ConfigError, match="no such command"):
        find(["paint"])


def test_the_panel_is_what_a_run_says_at_its_start(pictures: ModuleType) -> None:
    terminal = pictures.terminal
    committed = terminal.read_text((FOLDER / terminal.PANEL).read_text())
    said = terminal.describe()
    assert committed == terminal.read_text(terminal.draw_panel(said)), f"terminal_panel.svg {STALE} terminal"
    assert committed != terminal.read_text(terminal.draw_panel(replace(said, batch_size=65)))
    assert any(said.title in line for line in committed)


def test_the_bar_is_what_its_numbers_give(pictures: ModuleType) -> None:
    terminal = pictures.terminal
    svg = (FOLDER / terminal.BAR).read_text()
    progress, now = terminal.read_numbers(svg)
    assert 0 < progress.latest[0] < progress.total
    assert terminal.read_text(svg) == terminal.read_text(terminal.draw_bar(progress, now)), f"{STALE} terminal"
    assert terminal.read_text(svg) != terminal.read_text(terminal.draw_bar(progress, now + 60))
    with pytest.raises(ValueError, match="no <desc>"):
        terminal.read_numbers("<svg></svg>")


def test_the_mixed_images_are_what_the_techniques_make(pictures: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = pictures.mixed_images
    path = FOLDER / mixed.FILE
    grid = mixed.compute()
    assert mixed.read_captions(path) == grid.captions, f"{STALE} mixed_images"
    with Image.open(path) as picture:
        shown = np.asarray(picture.convert("RGB"), dtype=np.float32)
    apart = measure_tiles(mixed, shown, grid)
    assert max(apart.values()) < LOSS, f"{STALE} mixed_images: {apart}"
    # negative controls: other boxes and partners, and noise of another key
    other = measure_tiles(mixed, shown, mixed.compute(mixed.STEP + 1))
    assert min(value for (name, _), value in other.items() if name != "as loaded") > LOSS
    monkeypatch.setattr(erasing, "key64", lambda seed, *names: key64(seed + 1, *names))
    other = measure_tiles(mixed, shown, mixed.compute())
    assert {name for (name, _), value in other.items() if value >= LOSS} == {"erasing"}


def measure_tiles(mixed: ModuleType, shown: np.ndarray, grid: object) -> dict[tuple[str, int], float]:
    """The mean difference of each tile from the one that is shown, in grey levels of 255, by blocks of 8×8 pixels, in
    which most of what a lossy encoder does to a pixel is averaged out."""
    drawn = np.asarray(mixed.draw(grid), dtype=np.float32)
    assert drawn.shape == shown.shape
    found: dict[tuple[str, int], float] = {}
    for row, name in enumerate(mixed.TECHNIQUES):
        for column in range(len(mixed.CROPS)):
            left, top = mixed.place(row, column)
            tile = (drawn - shown)[top : top + mixed.SIDE, left : left + mixed.SIDE]
            blocks = tile.reshape(mixed.SIDE // 8, 8, mixed.SIDE // 8, 8, 3).mean((1, 3))
            found[name, column] = float(np.abs(blocks).mean())
    return found


def test_the_report_is_of_the_page_as_it_is(pictures: ModuleType) -> None:
    report = pictures.report
    now = report.compute_digest()
    for name in report.FILES:
        assert report.read_digest(FOLDER / name) == now, f"{name} {STALE} report (needs Chromium)"
    assert report.compute_digest(ROOT / "experiments" / "quickstart") != now
