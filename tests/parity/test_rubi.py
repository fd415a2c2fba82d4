"""RUBi: one step against the one written out, and its extra layer is trained."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.written_steps import Weights, part_of, step_once
from paribus.techniques.rubi import mask_logits


def joint(
    wanted: nn.Module, one: Weights, biased: nn.Module, other: Weights, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """One loss, whose gradient both networks follow, as of one optimizer on both."""
    f = torch.func.functional_call(wanted, one, (inputs,))
    z = torch.func.functional_call(biased.network, part_of(other, "network"), (inputs,))  # type: ignore[arg-type]
    c = z @ other["classifier.weight"].T + other["classifier.bias"]
    loss = F.cross_entropy(f * (1 / (1 + torch.exp(-z))), targets) + F.cross_entropy(c, targets)
    return loss, loss


def test_a_step_follows_the_gradient_of_both_losses_in_both_networks() -> None:
    for differences in step_once("rubi", losses=joint):
        assert max(differences) < 1e-12


def test_negative_control_an_extra_layer_that_is_not_trained_is_seen() -> None:
    """As in the comparison of ReBias's authors: the classifier on the biased logits keeps its first weights."""

    def untrained(*args: object) -> tuple[Tensor, Tensor]:
        wanted, one, biased, other, inputs, targets = args
        fixed = {k: w.detach() if k.startswith("classifier") else w for k, w in other.items()}  # type: ignore
        return joint(wanted, one, biased, fixed, inputs, targets)  # type: ignore[arg-type]

    of_wanted, of_biased = step_once("rubi", losses=untrained)
    assert max(of_wanted) < 1e-12, "f does not see that layer"
    assert max(of_biased) > 1e-4


def test_the_mask_is_a_sigmoid_of_the_biased_logits() -> None:
    wanted, biased = torch.tensor([[2.0, -4.0]]), torch.tensor([[0.0, 100.0]])
    assert mask_logits(wanted, biased).tolist() == [[1.0, -4.0]]
