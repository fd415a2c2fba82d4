"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382), for residual branches of any shape."""

from typing import Literal

from torch import Tensor, nn

DropPathRule = Literal["authors", "timm"]


class DropPath(nn.Module):
    """In training, drops a sample's branch with probability `rate` and scales the others up by 1 / (1 − rate).

    Draws from torch's global generators, which the loop seeds anew for each step.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        mask = x.new_empty(x.shape[0], *(1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * mask / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


def drop_path_rates(rate: float, blocks: int, rule: DropPathRule) -> tuple[float, ...]:
    """The rate of each block in turn. "authors", as PiT's code: rate·i / blocks, so the last one stays below `rate`;
    "timm": from 0 to `rate` in equal steps."""
    return tuple(rate * i / (blocks if rule == "authors" else max(1, blocks - 1)) for i in range(blocks))
