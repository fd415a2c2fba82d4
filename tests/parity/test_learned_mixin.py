"""Learned-Mixin: one step against the one written out, and its trust is trained."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.written_steps import Weights, call_with_features, part_of, step_once
from paribus.techniques.learned_mixin import entropy_of_bias, mix_logits


def written_out(
    wanted: nn.Module, one: Weights, biased: nn.Module, other: Weights, inputs: Tensor, targets: Tensor, w: float = 0.0
) -> tuple[Tensor, Tensor]:
    p, h = call_with_features(wanted, one, inputs)
    b = torch.func.functional_call(biased.network, part_of(other, "network"), (inputs,))  # type: ignore[arg-type]
    own, log_b = F.cross_entropy(b, targets), b.detach().softmax(1).log()  # b is fixed in the mixture

    def mixture(log_p: Tensor, trust: Tensor) -> Tensor:
        q = (trust * log_b).softmax(1)
        entropy = -(q * q.log()).sum(1).mean()
        return F.nll_loss((log_p + trust * log_b).softmax(1).log(), targets) + w * entropy

    def trust_of(features: Tensor) -> Tensor:
        return (1 + (features @ other["trust.weight"].T + other["trust.bias"]).exp()).log()

    log_p = p.softmax(1).log()
    return mixture(log_p, trust_of(h).detach()), own + mixture(log_p.detach(), trust_of(h.detach()))


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_a_step_follows_the_gradients_of_the_mixture(weight: float) -> None:
    losses = step_once("learned_mixin", f"method.entropy={weight}", losses=lambda *a: written_out(*a, w=weight))
    for differences in losses:
        assert max(differences) < 1e-11


def test_negative_control_a_trust_that_is_not_trained_is_seen() -> None:
    """As in the comparison of ReBias's authors: the layer that says how far to believe keeps its first weights."""

    def untrained(*args: object) -> tuple[Tensor, Tensor]:
        wanted, one, biased, other, inputs, targets = args
        fixed = {k: w.detach() if k.startswith("trust") else w for k, w in other.items()}  # type: ignore
        return written_out(wanted, one, biased, fixed, inputs, targets)  # type: ignore[arg-type]

    of_wanted, of_biased = step_once("learned_mixin", losses=untrained)
    assert max(of_wanted) < 1e-11
    assert max(of_biased) > 1e-5


def test_negative_control_another_entropy_is_seen() -> None:
    of_wanted, of_biased = step_once("learned_mixin", "method.entropy=0.3", losses=written_out)
    assert max(*of_wanted, *of_biased) > 1e-5


def test_no_trust_leaves_the_wanted_network_and_the_largest_entropy() -> None:
    wanted, biased = torch.randn(5, 3), torch.randn(5, 3)
    none = torch.zeros(5, 1)
    assert torch.allclose(mix_logits(wanted, biased, none).softmax(1), wanted.softmax(1))
    assert float(entropy_of_bias(biased, none)) == pytest.approx(math.log(3))
