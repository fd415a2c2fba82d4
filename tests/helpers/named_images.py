"""A dataset class whose classes are in a file, so that they can change under one config."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


class NamedImages:
    """Plain images, named by their colours. file: {split: names of the classes}, in the order of the labels."""

    def __init__(self, file: str, split: str, n: int = 12) -> None:
        self.classes: Sequence[str] = json.loads(Path(file).read_text())[split]
        self.targets = [i % len(self.classes) for i in range(n)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        name = self.classes[self.targets[i]]
        return Image.new("RGB", (16, 16), COLOURS[name.removeprefix("colour_")]), self.targets[i]
