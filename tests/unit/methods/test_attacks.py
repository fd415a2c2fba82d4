"""Attacks on networks whose worst case is known in closed form, and the guards of what an attack divides by."""

import pytest
import torch
from torch import Tensor, nn

from paribus.core.capabilities import in_eval_mode
from paribus.methods.attacks import Attack, Norm, ascend, draw_starts, pgd, project, spread

SHAPE = (5, 3, 4, 4)


def grey(*shape: int) -> Tensor:
    return torch.full(shape, 0.5, dtype=torch.float64)


@pytest.mark.parametrize(("norm", "order"), [("linf", 1), ("l2", 2)])
def test_of_a_linear_loss_the_worst_change_is_found(norm: Norm, order: int) -> None:
    """max over the ball of ⟨w, δ⟩ is ε times the dual norm of w."""
    weight = torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    change = pgd(lambda d: (d * weight).sum(), grey(*SHAPE), None, 0.1, 0.04, 5, norm)
    gained = (change * weight).sum((1, 2, 3))
    dual = torch.linalg.vector_norm(weight, ord=order)
    torch.testing.assert_close(gained, (0.1 * dual).expand(SHAPE[0]))
    with pytest.raises(AssertionError):  # of the other norm it is another
        torch.testing.assert_close(gained, (0.1 * torch.linalg.vector_norm(weight, ord=3 - order)).expand(SHAPE[0]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_changed_pixels_stay_in_the_ball_and_in_their_range(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(SHAPE, generator=generator).round(decimals=1)  # some at 0 and at 1
    change = project(torch.randn(SHAPE, generator=generator), pixels, 0.3, norm)
    lengths = torch.linalg.vector_norm(change, ord=torch.inf if norm == "linf" else 2, dim=(1, 2, 3))
    assert lengths.max() <= 0.3 + 1e-6
    assert lengths.min() > 0.1
    assert (pixels + change).min() >= 0
    assert (pixels + change).max() <= 1


def test_what_is_outside_the_range_already_is_not_moved_further() -> None:
    pixels = torch.tensor([-0.2, 1.3, 0.5]).view(1, 1, 1, 3)
    assert project(torch.full((1, 1, 1, 3), -0.1), pixels, 0.1, "linf").flatten().tolist() == pytest.approx(
        [0, -0.1, -0.1]
    )
    assert project(torch.full((1, 1, 1, 3), 0.1), pixels, 0.1, "linf").flatten().tolist() == pytest.approx(
        [0.1, 0, 0.1]
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_a_gradient_nothing_moves(norm: Norm) -> None:
    gradient = torch.zeros(2, 1, 2, 2)
    gradient[1, 0, 0, 0], gradient[1, 0, 1, 1] = torch.nan, 1.0
    moved = ascend(torch.zeros(2, 1, 2, 2), gradient, 0.5, norm)
    assert not moved[0].any()
    assert moved[1].flatten().tolist() == [0, 0, 0, 0.5]  # what is not a number moves nothing, the others all the same


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_gradient_of_any_size_gives_a_step_of_the_full_length(size: float) -> None:
    """Squares of 1e-30 are 0 in float32, and those of 1e30 infinite: so a confident network would look robust."""
    gradient = size * torch.tensor([3.0, -4.0]).view(1, 1, 1, 2)
    moved = ascend(torch.zeros(1, 1, 1, 2), gradient, 1.0, "l2")
    torch.testing.assert_close(moved.flatten(), torch.tensor([0.6, -0.8]))


def test_starts_are_uniform_in_the_ball() -> None:
    n, like = 4000, torch.zeros(4000, 1, 1, 3, dtype=torch.float64)
    drawn = draw_starts(0, "test", 0, torch.arange(n), like)
    cube = spread(drawn, like, 0.5, "linf").flatten(1)
    assert cube.abs().max() <= 0.5
    assert cube.var(0).tolist() == pytest.approx([0.25 / 3] * 3, rel=0.1)
    ball = spread(drawn, like, 2.0, "l2").flatten(1)
    radius = torch.linalg.vector_norm(ball, dim=1)
    volume = (radius / 2) ** 3  # of the ball inside, uniform in [0, 1)
    assert volume.max() <= 1
    assert [volume.quantile(q).item() for q in (0.25, 0.5, 0.75)] == pytest.approx([0.25, 0.5, 0.75], abs=0.03)
    assert volume.quantile(0.5) != pytest.approx(radius.quantile(0.5).item() / 2, abs=0.03)  # as a cube root is not
    direction = ball / radius[:, None]
    assert direction.mean(0).tolist() == pytest.approx([0] * 3, abs=0.04)
    assert (direction**2).mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)


def test_a_start_belongs_to_its_sample() -> None:
    ids, like = torch.tensor([7, 3, 11]), torch.zeros(3, 1, 2, 2)
    whole = draw_starts(1, "a", 2, ids, like)
    assert torch.equal(draw_starts(1, "a", 2, ids[1:], like[1:]), whole[1:])
    for other in (
        draw_starts(2, "a", 2, ids, like),
        draw_starts(1, "b", 2, ids, like),
        draw_starts(1, "a", 3, ids, like),
    ):
        assert not torch.equal(other, whole)


class Normed(nn.Module):
    """BatchNorm and a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Linear(48, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.norm(inputs).flatten(1))


def test_a_network_is_left_as_it_was() -> None:
    network = Normed().train()
    network.last.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    attack = Attack("linf", 8.0, 3, None, (0.5,) * 3, (0.25,) * 3)
    inputs = torch.randn(SHAPE)
    with in_eval_mode(network), torch.no_grad():
        attacked = attack(network, inputs, torch.arange(5) % 4)
    assert network.training
    assert network.norm.training
    assert not torch.equal(attacked, inputs)
    assert not attacked.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [p.requires_grad for p in network.parameters()] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_in_bf16_the_change_keeps_its_precision() -> None:
    network, inputs = Normed().eval(), torch.randn(SHAPE)
    attack = Attack("linf", 2.0, 4, None, (0.5,) * 3, (0.25,) * 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attacked = attack(network, inputs, torch.arange(5) % 4)
    assert attacked.dtype == torch.float32
    moved = (attacked - inputs).abs()
    assert moved.max().item() == pytest.approx(2 / 255 / 0.25, rel=1e-4)
