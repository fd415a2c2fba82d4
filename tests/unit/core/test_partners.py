"""Which samples of other processes a step asks for: known before the step, exactly, for every transform that mixes."""

import pickle
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.partners import PartnerPlan
from paribus.core.progress import Progress
from paribus.core.protocols import HasPartners, Transform
from paribus.methods.switching import Switch
from paribus.techniques.cutmix import VARIANTS, CutMix
from paribus.techniques.cutout import Cutout
from paribus.techniques.erasing import RandomErasing
from paribus.techniques.mixup import Mixup

N, STEPS = 24, 6
BOTH = Switch(first=Mixup(alpha=0.8), second=CutMix())
CHAINS: dict[str, tuple[Transform, ...]] = {
    **{f"cutmix {name}": (CutMix(**variant),) for name, variant in VARIANTS.items()},
    "cutmix half of the time": (CutMix(prob=0.5),),
    "cutmix of samples, half of the time": (CutMix(prob=0.5, per="sample"),),
    "mixup": (Mixup(),),
    "mixup off": (Mixup(alpha=0.0),),
    "switch": (BOTH,),
    "two": (Mixup(), CutMix(partner="flip")),
    "two the other way, masked": (RandomErasing(prob=0.7), CutMix(), Cutout(length=2), Mixup()),
    "three": (BOTH, CutMix(), Mixup()),
}


def whole_batch() -> Batch:
    inputs = torch.arange(N * 3 * 8 * 8, dtype=torch.float32).view(N, 3, 8, 8)
    return Batch(inputs, torch.arange(N) % 5, torch.arange(N), torch.arange(N), N, 5)


def part_of(whole: Batch, own: Tensor, asked: set[int], host_knows: bool) -> Batch:
    """The batch of a process. Where the host knows positions, those on the device cannot be read at all: they are on
    torch's meta device."""

    def make(here: Tensor) -> Batch:
        rows = {name: getattr(whole, name)[here] for name in ("inputs", "targets", "ids")}
        there = here.to("meta") if host_knows else here
        return replace(whole, **rows, positions=there, fetch=fetch, known=(there, here) if host_knows else None)

    def fetch(positions: Tensor) -> Batch:
        asked.update(positions.tolist())
        return make(positions)

    return make(own)


def plan(transforms: Sequence[Transform]) -> PartnerPlan:
    return PartnerPlan(tuple(t for t in transforms if isinstance(t, HasPartners)), N, STEPS, 7, 3)


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("chain", CHAINS)
def test_the_plan_is_what_the_transforms_ask_for(chain: str, world: int) -> None:
    planned, mixed = plan(CHAINS[chain]), False
    for step in range(STEPS):
        for own in torch.arange(N).chunk(world):
            asked, batch = set[int](), whole_batch()
            part = part_of(batch, own, asked, host_knows=False)
            for transform in CHAINS[chain]:
                part = transform(part, Progress(step, STEPS, 7, 3))
            assert planned(step, own).tolist() == sorted(asked - set(own.tolist()))
            mixed |= bool(asked)
    assert mixed == (chain != "mixup off")


@pytest.mark.parametrize("chain", CHAINS)
def test_where_the_host_knows_positions_no_transform_reads_them_from_the_device(chain: str) -> None:
    """Positions on the meta device raise when they are read, as a read of CUDA's would be a wait."""
    for step in range(STEPS):
        for own in torch.arange(N).chunk(3):
            parts = [part_of(whole_batch(), own, set(), host_knows=known) for known in (True, False)]
            for transform in CHAINS[chain]:
                parts = [transform(part, Progress(step, STEPS, 7, 3)) for part in parts]
            assert torch.equal(parts[0].inputs, parts[1].inputs)
            assert torch.equal(parts[0].targets, parts[1].targets)


@pytest.mark.parametrize("chain", CHAINS)
def test_processes_together_make_the_batch_of_one(chain: str) -> None:
    """Also where a partner's partner was changed by an earlier transform."""
    for step in range(STEPS):
        alone, at = whole_batch(), Progress(step, STEPS, 7, 3)
        parts = [part_of(alone, own, set(), host_knows=False) for own in torch.arange(N).chunk(3)]
        for transform in CHAINS[chain]:
            alone, parts = transform(alone, at), [transform(part, at) for part in parts]
        assert torch.equal(torch.cat([part.inputs for part in parts]), alone.inputs)
        assert torch.equal(torch.cat([part.targets for part in parts]), alone.targets)


def test_positions_that_a_transform_replaces_are_not_taken_for_the_old_ones() -> None:
    part = part_of(whole_batch(), torch.arange(4), set(), host_knows=True)
    assert part.host_positions is not None
    assert replace(part, inputs=part.inputs + 1).host_positions is not None
    assert replace(part, positions=part.positions.flip(0)).host_positions is None


def test_a_plan_takes_several_partners_of_a_sample_and_goes_to_workers() -> None:
    class Three:
        def partners(self, at: Progress, n: int) -> Tensor:
            return torch.stack([torch.arange(n).roll(k) for k in (1, 2, 3)], 1)

    own = torch.arange(6, 12)
    assert PartnerPlan((Three(),), N, STEPS, 0, 3)(0, own).tolist() == [3, 4, 5]
    sent = pickle.loads(pickle.dumps(plan(CHAINS["three"])))
    assert sent(2, own).tolist() == plan(CHAINS["three"])(2, own).tolist()
