"""A network's step within another one's forward, as ReBias takes it: what comes after it sees the new weights."""

import pytest
import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.methods.update import GradientStep


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_after_a_step_within_a_forward_the_new_weights_count(precision: str) -> None:
    """Autocast keeps half-precision copies of weights until the outermost one ends, and those are of before."""
    net = nn.Linear(4, 3)
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(net.parameters(), lr=10.0)
    update = GradientStep(precision=precision)  # type: ignore[arg-type]
    ids = torch.arange(5)
    batch = Batch(inputs, ids % 3, ids, ids, 5, 3)
    seen: list[Tensor] = []

    def inner(part: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return nn.functional.cross_entropy(net(part.inputs).float(), part.targets), {}

    def outer(part: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        seen.append(net(part.inputs).detach())
        update(inner, part, net, optimizer, torch.amp.GradScaler("cpu", enabled=False))
        seen.append(net(part.inputs).detach())
        return of_other(part.inputs).sum(), {}

    of_other = nn.Linear(4, 1)
    other = torch.optim.SGD(of_other.parameters(), lr=0.1)
    update(outer, batch, of_other, other, torch.amp.GradScaler("cpu", enabled=False))
    before, after = seen
    with torch.no_grad():
        now = net(inputs)
    assert float((now - before).abs().max()) > 1.0
    torch.testing.assert_close(after.float(), now, rtol=0.02, atol=0.05)
