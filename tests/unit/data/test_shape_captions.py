"""Made-up images and captions: what a caption says is true of its image, words and tokens, splits."""

import pytest
import torch
from torch import Tensor

from paribus.core.protocols import DataSets, DeviceContext
from paribus.core.streams import stream
from paribus.data.shape_captions import (
    COLOURS,
    LENGTH,
    SHAPES,
    SIDES,
    SIZES,
    WORDS,
    ShapeCaptions,
    caption,
    describe,
    draw_objects,
    paint,
    tokenize,
    write,
)

PLACE = DeviceContext(torch.device("cpu"))


def words(tokens: list[int]) -> str:
    return " ".join(WORDS[token] for token in tokens if token)


def sets(**settings: object) -> DataSets:
    return ShapeCaptions(n=400, val_n=120, size=12, **settings)(PLACE)  # type: ignore[arg-type]


def read(text: str) -> list[dict[str, str]]:
    """What a caption says, from its words alone."""
    kinds = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "side": SIDES}
    return [
        {kind: word for kind, values in kinds.items() for word in phrase.split() if word in values}
        for phrase in text.split(" and ")
    ]


def holds(said: dict[str, str], thing: list[int]) -> bool:
    values = (list(COLOURS), SHAPES, SIZES, SIDES)
    shown = {kind: names[k] for kind, names, k in zip(("colour", "shape", "size", "side"), values, thing, strict=True)}
    return all(shown[kind] == word for kind, word in said.items())


def test_every_caption_is_true_of_its_image_and_says_something() -> None:
    batch = next(iter(sets().splits["val"](200)))
    one, two = 0, 0
    for tokens, objects in zip(batch.also["tokens"].tolist(), batch.also["objects"].tolist(), strict=True):
        phrases = read(words(tokens))
        assert all(phrases)
        assert any(
            all(holds(said, thing) for said, thing in zip(phrases, order, strict=False))
            for order in (objects, objects[::-1])
        )
        one, two = one + (len(phrases) == 1), two + (len(phrases) == 2)
    assert one > 30
    assert two > 30


def test_words_are_those_of_the_description() -> None:
    assert caption([(0, 0, 1, -1), (-1, -1, 0, 1)]) == "a large red square and something small on the right"
    assert caption([(-1, -1, -1, 0), (-1, -1, -1, -1)]) == "something on the left"
    longest = caption([(0, 0, 0, 0), (1, 1, 1, 1)])
    assert len(tokenize(longest)) == LENGTH
    assert words(write(torch.tensor([[[0, 0, 0, 0], [1, 1, 1, 1]]]))[0].tolist()) == longest
    assert len(WORDS) == len(set(WORDS)) == 20


def test_captions_of_other_frequencies() -> None:
    objects = draw_objects(500, stream(0, "test"))
    none, everything = (describe(objects, said, 1.0, stream(1, "test")) for said in (0.0, 1.0))
    assert ((none >= 0).sum(2) == 1).all(), "one attribute at least"
    assert (everything >= 0).all()
    alone = describe(objects, 0.5, 0.0, stream(1, "test"))
    assert (alone[:, 1] == -1).all()
    assert ((alone[:, 0] >= 0).sum(1) >= 1).all()


def test_pixels_show_the_objects() -> None:
    objects = torch.tensor([[[0, 0, 1, 0], [2, 1, 1, 1]]]).expand(50, 2, 4)
    image = paint(objects, 32, 0.0, stream(0, "pixels")).double().mean(0)
    assert image[16, 8].argmax() == 0, "red on the left"
    assert image[16, 24].argmax() == 2, "blue on the right"
    small = paint(torch.tensor([[[0, 0, 0, 0], [2, 1, 0, 1]]]).expand(50, 2, 4), 32, 0.0, stream(0, "pixels"))
    large = paint(objects, 32, 0.0, stream(0, "pixels"))
    area = [int((images.int() - 45).abs().sum(3).gt(0).sum()) for images in (small, large)]
    assert 2 < area[1] / area[0] < 5


@pytest.mark.parametrize("shape", range(4))
def test_no_two_shapes_are_alike(shape: int) -> None:
    def mask(k: int) -> Tensor:
        objects = torch.tensor([[[5, k, 1, 0], [5, 0, 0, 1]]])
        return paint(objects, 32, 0.0, stream(0, "pixels"))[0, :, :16].sum(2) > 3 * 45

    others = [mask(k) for k in range(4) if k != shape]
    assert min(int((mask(shape) ^ other).sum()) for other in others) > 15


def test_splits_differ_and_are_the_same_each_time() -> None:
    one, again, other = sets(), sets(), sets(draw=1)
    assert one.checksum == again.checksum != other.checksum
    first, second = (next(iter(data.splits["val"](120))) for data in (one, other))
    assert torch.equal(first.inputs, second.inputs), "another draw leaves val as it is"
    train = one.loader(32, 0).batch(0)
    assert train.also["tokens"].shape == (32, LENGTH)
    assert one.facts["train"] == one.facts["val"] == ("tokens", "objects", "described")
    assert sets(minival=40).sizes["minival"] == 40
