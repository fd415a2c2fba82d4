"""Two coloured shapes in an image, and a caption that says some of what is there: which captions are true of which
images is known.

A left and a right object have a colour, a shape and a size each. A caption describes one of them or both, and says each
of an object's attributes or not: "a red square", "something small on the left and a blue circle". It is true of every
image that has such objects, so most captions are true of many images, and most images have many true captions.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.protocols import DataSets, DeviceContext
from paribus.core.streams import stream
from paribus.data.loaders.in_memory import Images, build_in_memory_sets
from paribus.data.ops.input_spec import InputSpec, PadCrop

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (60, 90, 230),
    "yellow": (230, 210, 50),
    "pink": (240, 130, 200),
    "white": (235, 235, 235),
}
SHAPES = ("square", "circle", "triangle", "cross")
SIZES = ("small", "large")
SIDES = ("left", "right")
COUNTS = (len(COLOURS), len(SHAPES), len(SIZES), len(SIDES))  # values of each attribute, in the order of `objects`
WORDS = ("", "a", "something", "and", "on", "the", *COLOURS, *SHAPES, *SIZES, *SIDES)  # a word's place is its token
LENGTH = 15  # of the longest caption
_COLOUR, _SHAPE, _SIZE, _SIDE = range(4)
_RADII = (0.11, 0.2)  # of small and large, in image sizes
_BACKGROUND = 45.0
_AT_A_TIME = 1000  # images painted, for memory


@schema
class ShapeCaptions:
    """n training pairs and val_n pairs in `val`, each of an image of its own and one caption that is true of it; the
    data do not depend on the run's seed. The label is colour and shape of the object on the left, 24 classes.

    `Batch.also` has "tokens", (n, 15) int64, 0 behind the last word; "objects", (n, 2, 4) int64: colour, shape, size
    and side of the objects; "described", (n, 2, 4): the same of what the caption says, −1 for what it does not say.

    n, val_n: how many pairs. size: pixels a side. said: chance that a caption says an attribute of an object; it always
    says one. both: share of
    the captions that describe both objects. noise: standard deviation of the pixels, of 255. draw: another number draws
    other training pairs. train_size: a stratified subset of the training set. minival: pairs held out from it for
    selection.
    """

    n: Annotated[int, Field(ge=1)] = 6000
    val_n: Annotated[int, Field(ge=1)] = 1000
    size: Annotated[int, Field(ge=8, le=64)] = 32
    said: Annotated[float, Field(ge=0, le=1)] = 0.5
    both: Annotated[float, Field(ge=0, le=1)] = 0.5
    noise: Annotated[float, Field(ge=0)] = 20.0
    draw: Annotated[int, Field(ge=0)] = 0
    train_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0

    def __call__(self, place: DeviceContext) -> DataSets:
        train, val = self._make(self.n, "train", self.draw), self._make(self.val_n, "val", 0)
        spec = InputSpec((0.3,) * 3, (0.25,) * 3, PadCrop(pad=0), False, {}, 1, False)
        names = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
        limits = (self.train_size, self.minival)
        return build_in_memory_sets("shape_captions", train, val, len(names), spec, place, *limits, names)

    def _make(self, n: int, split: str, draw: int) -> Images:
        objects = draw_objects(n, stream(draw, "shape_captions", split, "objects"))
        described = describe(objects, self.said, self.both, stream(draw, "shape_captions", split, "captions"))
        generator = stream(draw, "shape_captions", split, "pixels")
        pixels = torch.cat([paint(part, self.size, self.noise, generator) for part in objects.split(_AT_A_TIME)])
        targets = objects[:, 0, _COLOUR] * len(SHAPES) + objects[:, 0, _SHAPE]
        also = {"tokens": write(described), "objects": objects, "described": described}
        return Images(pixels, targets, torch.arange(n), also=also)


def draw_objects(n: int, generator: torch.Generator) -> Tensor:
    """(n, 2, 4) int64: colour, shape, size and side of the left and the right object."""
    drawn = [torch.randint(count, (n, 2), generator=generator) for count in COUNTS[:_SIDE]]
    return torch.stack((*drawn, torch.arange(2).expand(n, 2)), 2)


def describe(objects: Tensor, said: float, both: float, generator: torch.Generator) -> Tensor:
    """(n, 2, 4) int64: what a caption says of the object that it names first, and of the other; −1 where nothing."""
    n = len(objects)
    first, pair = torch.randint(2, (n,), generator=generator), torch.rand(n, generator=generator) < both
    is_said = torch.rand(n, 2, 4, generator=generator) < said
    fallback = torch.randint(4, (n, 2), generator=generator)  # what is said where nothing would be
    is_said |= ~is_said.any(2, keepdim=True) & (torch.arange(4) == fallback[..., None])
    is_said[:, 1] &= pair[:, None]
    order = torch.stack((first, 1 - first), 1)
    return torch.where(is_said, objects.gather(1, order[..., None].expand(n, 2, 4)), -1)


def write(described: Tensor) -> Tensor:
    """(n, LENGTH) int64 tokens of the captions."""
    rows = [tokenize(caption(list(map(tuple, row)))) for row in described.tolist()]
    return torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])


def caption(described: list[tuple[int, ...]]) -> str:
    """A caption of one row of `described`.

    >>> caption([(0, 0, -1, -1), (-1, -1, 0, 1)])
    'a red square and something small on the right'
    """
    return " and ".join(_phrase(*one) for one in described if max(one) >= 0)


def tokenize(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


def _phrase(colour: int, shape: int, size: int, side: int) -> str:
    before = [SIZES[size]] if size >= 0 else []
    before += [list(COLOURS)[colour]] if colour >= 0 else []
    named = ["a", *before, SHAPES[shape]] if shape >= 0 else ["something", *before]
    return " ".join([*named, *(["on the", SIDES[side]] if side >= 0 else [])])


def paint(objects: Tensor, size: int, noise: float, generator: torch.Generator) -> Tensor:
    """(n, size, size, 3) uint8. Places, sizes and brightness vary a little; the right object never covers the left."""
    n = len(objects)
    across, down, grown, light = (torch.rand(n, 2, generator=generator) - 0.5 for _ in range(4))
    radius = torch.tensor(_RADII)[objects[..., _SIZE]] * (1 + 0.2 * grown)
    middle = torch.stack((0.25 + 0.5 * objects[..., _SIDE] + 0.08 * across, 0.5 + 0.5 * down), 2)
    place = (torch.arange(size) + 0.5) / size
    x = (place[None, None, None, :] - middle[..., 0, None, None]) / radius[..., None, None]
    y = (place[None, None, :, None] - middle[..., 1, None, None]) / radius[..., None, None]
    inside = _inside(objects[..., _SHAPE], x, y)
    colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)[objects[..., _COLOUR]]
    colours = colours * (1 + 0.3 * light[..., None])
    pixels = torch.full((n, size, size, 3), _BACKGROUND)
    for k in range(2):
        pixels = torch.where(inside[:, k, ..., None], colours[:, k, None, None], pixels)
    pixels += noise * torch.randn(pixels.shape, generator=generator)
    return pixels.clamp(0, 255).to(torch.uint8)


def _inside(shape: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(n, 2, h, w) bool. x, y: in radii from the middle of the object, y downwards."""
    ax, ay = x.abs(), y.abs()
    cross = ((ax < 0.35) | (ay < 0.35)) & (ax < 1) & (ay < 1)
    triangle = (y < 0.8) & (ax < (y + 1) * 0.6)
    each = ((ax < 0.85) & (ay < 0.85), x.square() + y.square() < 1, triangle, cross)
    return torch.stack([(shape == k)[..., None, None] & where for k, where in enumerate(each)]).any(0)
