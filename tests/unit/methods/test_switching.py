"""One of two transforms for each batch, and overlays on recipes that mix already."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from helpers.trainings import composed, recipe_of, trained
from paribus.core.batch import Batch
from paribus.core.build import build
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.methods.switching import Switch
from paribus.techniques.cutmix import CutMix
from paribus.techniques.cutout import Cutout
from paribus.techniques.mixup import Mixup

BOTH = Switch(first=Mixup(alpha=0.8), second=CutMix())
MIXING = {
    "_target_": "paribus.methods.switching.Switch",
    "first": {"_target_": "paribus.techniques.mixup.Mixup", "alpha": 0.8},
    "second": {"_target_": "paribus.techniques.cutmix.CutMix"},
}


def batch_of(n: int = 8, seed: int = 0) -> Batch:
    inputs = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Batch(inputs, torch.arange(n) % 4, torch.arange(n), torch.arange(n), n, 4)


def at(step: int, seed: int = 0) -> Progress:
    return Progress(step, 1000, seed)


def test_each_batch_is_what_the_chosen_transform_makes_of_it() -> None:
    chosen = set()
    for step in range(20):
        transform = BOTH.choose(at(step))
        chosen.add(type(transform))
        ours, alone = BOTH(batch_of(), at(step)), transform(batch_of(), at(step))
        assert torch.equal(ours.inputs, alone.inputs)
        assert torch.equal(ours.targets, alone.targets)
    assert chosen == {Mixup, CutMix}


@pytest.mark.parametrize(("share", "only"), [(0.0, Mixup), (1.0, CutMix)])
def test_a_share_of_nothing_or_all_is_one_of_them_alone(share: float, only: type) -> None:
    switch = replace(BOTH, share=share)
    assert all(type(switch.choose(at(step))) is only for step in range(200))


def test_the_share_is_kept_and_belongs_to_seed_step_and_name() -> None:
    def decisions(switch: Switch, seed: int) -> list[bool]:
        return [switch.choose(at(step, seed)) is switch.second for step in range(2000)]

    first = decisions(BOTH, 0)
    assert sum(first) / 2000 == pytest.approx(0.5, abs=0.04)  # 3.6 standard errors
    assert sum(decisions(replace(BOTH, share=0.2), 0)) / 2000 == pytest.approx(0.2, abs=0.035)
    assert decisions(BOTH, 0) == first
    for other in (decisions(BOTH, 1), decisions(replace(BOTH, name="other"), 0)):
        assert 0.4 < sum(a == b for a, b in zip(first, other, strict=True)) / 2000 < 0.6


def test_two_ranks_make_the_batch_of_one() -> None:
    """Each rank has half of the global batch and fetches partners from the whole of it."""
    whole = batch_of(16)
    kinds = set()
    for step in range(8):
        kinds.add(type(BOTH.choose(at(step))))
        want = BOTH(whole, at(step))
        for rank in range(2):
            here = torch.arange(rank, 16, 2)
            part = replace(whole.peers(here), fetch=lambda positions: whole.peers(positions))
            got = BOTH(part, at(step))
            assert torch.equal(got.inputs, want.inputs[here])
            assert torch.equal(got.targets, want.targets[here])
            again = got.peers(torch.arange(16))  # what a later transform would fetch is mixed as well
            assert torch.equal(again.inputs, want.inputs)
    assert kinds == {Mixup, CutMix}


def test_inputs_are_not_changed_and_targets_keep_their_mass() -> None:
    batch = batch_of()
    before = batch.inputs.clone()
    for step in range(6):
        mixed = BOTH(batch, at(step))
        assert torch.equal(batch.inputs, before)
        assert torch.allclose(mixed.targets.sum(1), torch.ones(8))


@dataclass(frozen=True)
class Refuses:
    seen: list[Spec] = field(default_factory=list)

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        return batch

    def check(self, spec: Spec) -> None:
        self.seen.append(spec)


def test_checks_of_both_are_made() -> None:
    first, second, spec = Refuses(), Refuses(), Spec(10, 3, 8, 8)
    Switch(first=first, second=second).check(spec)
    assert first.seen == second.seen == [spec]
    with pytest.raises(ConfigError, match=r"transforms\.cutout\.length"):
        Switch(first=Mixup(), second=Cutout(length=40)).check(spec)


def test_what_is_no_transform_is_refused() -> None:
    wrong: dict[str, Any] = {**MIXING, "second": {"_target_": "paribus.models.convnet.ConvNet"}}
    with pytest.raises(ConfigError, match=r"transforms\.mixing\.second.*should be a Transform"):
        build(wrong, "transforms.mixing")


MIXED = [
    "+transforms.mixing._target_=paribus.methods.switching.Switch",
    "+transforms.mixing.first={_target_: paribus.techniques.mixup.Mixup, alpha: 0.8}",
    "+transforms.mixing.second={_target_: paribus.techniques.cutmix.CutMix}",
]


def test_a_recipe_that_mixes_already_refuses_a_second_mixing_until_its_own_is_out() -> None:
    for technique in ("cutmix", "mixup"):
        with pytest.raises(ConfigError, match=rf"technique={technique}.*transforms\.mixing.*transforms\.mixing=null"):
            recipe_of("experiment=smoke", *MIXED, techniques=(technique,))
    out = ["experiment=smoke", "+transforms.mixing=null"]
    assert [type(t) for t in recipe_of(*out, techniques=("cutmix",)).transforms.values() if t] == [CutMix]
    # other techniques go with it, and two overlays that were both asked for are the asker's business
    recipe_of("experiment=smoke", *MIXED, techniques=("cutout",))
    recipe_of("experiment=smoke", techniques=("cutmix", "mixup"))


def test_an_own_mixup_is_another_mixing_too() -> None:
    own = "+transforms.mine={_target_: paribus.techniques.mixup.Mixup}"
    with pytest.raises(ConfigError, match=r"transforms\.mine"):
        recipe_of("experiment=smoke", own, techniques=("cutmix",))
    assert composed("technique=mixup")["overlays"]["mixup"]["alone"]


def test_it_trains_from_a_config(tmp_path: Any) -> None:
    done = trained(tmp_path, "experiment=smoke", "steps=12ba", *MIXED)
    assert done.code == 0
