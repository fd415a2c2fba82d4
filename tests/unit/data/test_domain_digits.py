"""Domain digits: each image in one drawn domain, colours and angles as named, the digit kept as a fact."""

import pytest
import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data import domain_digits
from paribus.data.domain_digits import COLOURS, DomainDigits, draw_domains, paint, turn
from paribus.data.ops.affine import affine_transform, rotation_matrices

HERE = DeviceContext(torch.device("cpu"))


def pretend(root: object, split: str) -> tuple[Tensor, Tensor]:
    """White squares off the middle, so that both colour and angle can be read off."""
    digits = torch.zeros(400 if split == "train" else 60, 28, 28, dtype=torch.uint8)
    digits[:, 4:8, 12:16] = 255
    return digits, torch.arange(len(digits)) % 10


@pytest.fixture(autouse=True)
def _no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain_digits, "read_mnist", pretend)


def made(**settings: object) -> DataSets:
    return DomainDigits(**settings)(HERE)  # type: ignore[arg-type]


def whole(data: DataSets) -> Batch:
    assert data.whole is not None
    return next(iter(data.whole(1000, None)))


def test_each_image_is_in_the_domain_that_its_target_says() -> None:
    data = made(colours=3, rotations=2)
    assert data.spec.classes == 6
    assert data.names == (
        "red 0°",
        "green 0°",
        "blue 0°",
        "red 90°",
        "green 90°",
        "blue 90°",
    )
    batch = whole(data)
    pixels = ((batch.inputs + 1) / 2 * 255).round().long()
    ink = pixels.flatten(2).max(2).values
    palette = torch.tensor(list(COLOURS.values()))[:3]
    assert torch.equal((ink[:, None] - palette).abs().sum(2).argmin(1), batch.targets % 3)
    mass = pixels.sum(1).double()
    left = (mass.sum(1) * torch.arange(32)).sum(1) / mass.sum((1, 2))
    turned = batch.targets // 3 == 1  # counterclockwise, what is above goes to the left
    assert bool((left[~turned] - 15.5).abs().max() < 0.1)
    assert bool(left[turned].max() < 12)


def test_the_digit_is_kept_as_content_and_is_the_target_where_asked() -> None:
    domain, content = whole(made()), whole(made(label="content"))
    assert torch.equal(domain.inputs, content.inputs)
    assert torch.equal(domain.also["content"], domain.ids % 10)
    assert torch.equal(content.targets, domain.ids % 10)
    assert torch.equal(domain.targets, domain.also["domain"])
    assert torch.equal(content.also["domain"], domain.targets)
    assert made(label="content").names == tuple("0123456789")


def test_domains_are_a_function_of_the_id_and_of_draw() -> None:
    ids = torch.arange(4000)
    domains = draw_domains(ids, 5, 0, "train")
    assert torch.equal(draw_domains(ids[100:120], 5, 0, "train"), domains[100:120])
    assert torch.allclose(domains.bincount(minlength=5) / 4000, torch.tensor(0.2), atol=0.03)
    for other in (draw_domains(ids, 5, 1, "train"), draw_domains(ids, 5, 0, "val")):
        assert 0.15 < float((other == domains).float().mean()) < 0.25
    assert made().checksum == made().checksum != made(draw=1).checksum


def test_turning_is_a_rotation_about_the_centre() -> None:
    digits = torch.randint(0, 256, (5, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    angles = torch.tensor([0, 30, 45, 90, 90])
    turned = turn(digits, angles)
    assert torch.equal(turned[0], digits[0])
    assert torch.equal(turned[3:], digits[3:].rot90(1, (1, 2)))
    # Pillow's rotation in float64, but for the pixels at the edge, which it does not mix with what is outside
    other = affine_transform(digits[..., None], rotation_matrices(angles, 32, 32), (0,), "bilinear")[..., 0]
    inside = ((torch.arange(32)[:, None] - 15.5).square() + (torch.arange(32) - 15.5).square()).sqrt() < 14
    apart = (turned.int() - other.int()).abs()[:, inside]
    assert int(apart.max()) <= 2
    backwards = affine_transform(digits[..., None], rotation_matrices(-angles, 32, 32), (0,), "bilinear")[..., 0]
    assert int((turned.int() - backwards.int()).abs()[1:, inside].max()) > 50


def test_ink_is_the_colour_in_proportion_to_the_grey_level() -> None:
    digits = torch.tensor([[[0, 255], [128, 1]]], dtype=torch.uint8)
    red = torch.tensor(COLOURS["red"])
    painted = paint(digits, torch.tensor([0]))[0].long()
    assert painted[0, 0].tolist() == [0, 0, 0]
    assert painted[0, 1].tolist() == red.tolist()
    assert bool(((painted[1, 0] - red * 128 / 255).abs() <= 0.5).all())


def test_subsets_have_domains_and_digits_in_proportion() -> None:
    batch = whole(made(colours=2, train_size=100))
    cells = batch.targets * 10 + batch.also["content"]
    assert len(batch) == 100
    assert int(cells.bincount(minlength=20).min()) >= 3
    assert made(val_size=50).sizes["val"] == 50


def test_scikit_learns_digits_need_no_files_and_share_its_split() -> None:
    data = made(source="sklearn", size=16)
    assert (data.sizes["train"], data.sizes["val"]) == (1437, 360)
    assert (data.spec.channels, data.spec.height) == (3, 16)
    inputs = whole(data).inputs
    assert float(inputs.min()) == -1.0
    assert 0.5 < float(inputs.max()) <= 1.0


def test_one_domain_is_refused() -> None:
    with pytest.raises((ConfigError, ValueError), match="two domains or more"):
        DomainDigits(colours=1)
