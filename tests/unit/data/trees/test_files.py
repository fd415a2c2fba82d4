from pathlib import Path

import pytest

from paribus.core.errors import ConfigError
from paribus.data.trees.files import list_image_files


def test_files_and_folders_in_the_order_given_each_once(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "b/deep/er/0.webp", "b/.hidden.png", "b/.git/x.png", "b/notes.txt", "odd.dat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "again").symlink_to(tmp_path / "b")  # a circle ends
    found = list_image_files([tmp_path / "odd.dat", tmp_path / "b", tmp_path / "b" / "1.png"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["odd.dat", "b/1.png", "b/2.JPG", "b/deep/er/0.webp"]


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file or folder there"):
        list_image_files([tmp_path / "gone"])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="no images in it"):
        list_image_files([tmp_path])
