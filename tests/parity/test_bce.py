"""Binary cross entropy against timm's BinaryCrossEntropy and Mixup, gradients too: equal to the bit for class ids."""

import pytest
import torch
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy as Theirs
from torch import Tensor

from paribus.core.mixing import mix_targets
from paribus.core.streams import stream
from paribus.methods.objectives import BinaryCrossEntropy, binary_cross_entropy

N, K = 32, 7
SETTINGS = [
    {"smoothing": smoothing, "target_threshold": threshold, "sum_classes": total}
    for smoothing in (0.0, 0.1)
    for threshold in (None, 0.2)
    for total in (False, True)
]


def logits() -> Tensor:
    return torch.randn(N, K, generator=stream(0, "test.bce")).mul(3).requires_grad_()


IDS = torch.randint(0, K, (N,), generator=stream(0, "test.bce.ids"))
WEIGHTS = torch.rand(K, generator=stream(0, "test.bce.weights"))


def value_and_gradient(loss_of, targets: Tensor) -> tuple[Tensor, Tensor]:
    given = logits()
    loss = loss_of(given, targets)
    (gradient,) = torch.autograd.grad(loss, given)
    return loss.detach(), gradient


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_class_ids_are_timms(settings: dict, weights: Tensor | None) -> None:
    ours = value_and_gradient(lambda x, y: BinaryCrossEntropy(**settings).loss(x, y, weights), IDS)
    theirs = value_and_gradient(Theirs(**settings, weight=weights), IDS)
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_mixed_targets_are_timms_mixup_and_its_loss(settings: dict, weights: Tensor | None) -> None:
    """timm smooths where it mixes and trusts dense targets; here the objective smooths all of them."""
    lam = 0.7
    share, rest = torch.tensor([lam]), torch.tensor([1 - lam])
    mixed = mix_targets(IDS, IDS.flip(0), share, rest, K)
    theirs_mixed = mixup_target(IDS, K, lam, settings["smoothing"])
    ours = value_and_gradient(lambda x, y: BinaryCrossEntropy(**settings).loss(x, y, weights), mixed)
    theirs = value_and_gradient(Theirs(**settings, weight=weights), theirs_mixed)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "broken",
    [
        lambda x, y: torch.nn.functional.cross_entropy(x, y, label_smoothing=0.1),
        lambda x, y: binary_cross_entropy(x, y, 0.0),
        lambda x, y: binary_cross_entropy(x, y, 0.1, sum_classes=True),
        lambda x, y: binary_cross_entropy(x, y, 0.1, threshold=0.2),
        lambda x, y: binary_cross_entropy(x, y, 0.1, weights=WEIGHTS),
    ],
    ids=["softmax", "no smoothing", "summed", "threshold", "weights"],
)
def test_the_comparison_sees_another_loss(broken) -> None:
    theirs = value_and_gradient(Theirs(smoothing=0.1), IDS)
    assert not torch.allclose(value_and_gradient(broken, IDS)[1], theirs[1], rtol=1e-3)
