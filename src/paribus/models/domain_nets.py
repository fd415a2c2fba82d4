"""Which networks there are for the domains of a data set, and how wide they are: one for all, or one for each pair.

`OneForEachPair` is what a translation between domains has without StarGAN (techniques/stargan.py): of k domains
k(k − 1)/2 networks, each of which knows two. "As large together" is by parameters, those of generators and those of
discriminators each on their own: every network of several is narrower, until all of them together have as many
parameters as one network of the width that was asked for, up to what rounding to whole channels leaves.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.models.macs import match_cost

Budget = Literal["together", "each"]
_TOLERANCE = 0.1  # of the parameters; narrow networks have coarse steps. The run's first screen says what became of it


@runtime_checkable
class DomainNets(Protocol):
    """Which networks there are: of each the domains that it knows, of all as many, in rising order. domains: how many
    there are."""

    def __call__(self, domains: int) -> tuple[tuple[int, ...], ...]: ...


@schema
class OneForEachPair:
    """One network for each two domains, which translates from one to the other and back."""

    def __call__(self, domains: int) -> tuple[tuple[int, ...], ...]:
        return tuple(itertools.combinations(range(domains), 2))


@dataclass(frozen=True)
class Division:
    """members: as `DomainNets` gives them. domains: how many there are. budget: together: the networks have the
    parameters of one of this width together; each: every one is of this width."""

    members: tuple[tuple[int, ...], ...]
    domains: int
    budget: Budget = "together"

    @property
    def known(self) -> int:
        """Domains that each network knows."""
        return len(self.members[0])

    def restrict(self, weights: Tensor) -> Tensor:
        """(n, domains) weights to (n, nets, known): those of each network's domains, whose sum is 0 where an image is
        of none of them."""
        # by columns, since an index made here would have to be copied to the device, for which the host waits
        columns = weights.unbind(1)
        return torch.stack([torch.stack([columns[k] for k in member], 1) for member in self.members], 1)

    def choose(self, sources: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Which network knows both domains, the first of several, and which of its domains the target is. Both (n,)
        int64, as sources and targets. The host waits; for evaluation."""
        members = torch.tensor(self.members, device=targets.device)
        knows = (members[..., None] == torch.arange(self.domains, device=targets.device)).any(1)  # (nets, domains)
        which = (knows[:, sources] & knows[:, targets]).int().argmax(0)
        return which, (members[which] == targets[:, None]).int().argmax(1)


def make_nets(
    make: Callable[[float, int], nn.Module], width: int, division: Division, what: str
) -> tuple[nn.ModuleList, str]:
    """The networks of a division, and a note on their size, "" for one network.

    make: (width, domains that it knows) -> a network; widths are rounded to channels there. what: in the note.
    """
    count = len(division.members)
    if count == 1:
        return nn.ModuleList([make(width, division.known)]), ""
    target = _count_parameters(make, width, division.domains)
    fitted = float(width)
    if division.budget == "together":
        fitted = match_cost(
            lambda w: count * _count_parameters(make, w, division.known), target, 0.5, width, _TOLERANCE, "parameters"
        )
    nets = nn.ModuleList(make(fitted, division.known) for _ in division.members)
    found = sum(p.numel() for p in nets.parameters())
    return nets, f"{count} {what} of width {fitted:.2f}, {found:,} parameters; one of width {width} has {target:,}"


def _count_parameters(make: Callable[[float, int], nn.Module], width: float, domains: int) -> int:
    with torch.device("meta"):  # shapes alone, and no random numbers
        return sum(p.numel() for p in make(width, domains).parameters())
