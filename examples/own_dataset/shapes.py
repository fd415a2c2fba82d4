"""A custom dataset class, used from the command line:

    PYTHONPATH=examples/own_dataset paribus train --config-dir examples/own_dataset data=shapes packages=[shapes]

paribus reads whole images by index, of any size, and does the crop, flip and normalisation itself.
"""

from PIL import Image, ImageDraw


class Shapes:
    """n images of circles and squares, of many sizes and colours."""

    classes = ("circle", "square")

    def __init__(self, n: int, first: int = 0) -> None:
        self.numbers = range(first, first + n)
        self.targets = [number % 2 for number in self.numbers]  # so that paribus need not read every image at the start

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        number, target = self.numbers[index], self.targets[index]
        image = Image.new("RGB", (40 + number % 17, 40 + number % 13), (number * 37 % 256, number * 91 % 256, 90))
        pen = ImageDraw.Draw(image)
        draw = pen.ellipse if target == 0 else pen.rectangle
        draw((8, 8, 24 + number % 9, 24 + number % 9), fill=(255 - number * 37 % 256, number * 53 % 256, 200))
        return image, target
