"""Partners of mixed batches, of several processes that decode: made with the share, and the same bits as without."""

from pathlib import Path

import pytest
import torch

from helpers.image_trees import images, tree
from helpers.trainings import recipe_of
from paribus.core.batch import Batch
from paribus.core.partners import PartnerPlan
from paribus.core.progress import Progress
from paribus.core.protocols import DeviceContext, Loader
from paribus.data.loaders.decode_batch import TrainDecoder
from paribus.data.loaders.from_files import DecodingLoader
from paribus.recipe.build import build_loader

BATCH, WORLD, STEPS = 12, 3, 5
DECODED = ("data=folder", "data.form=folder", "data.size=16", "data.workers=0", f"batch_size={BATCH}")
MIXING = {
    "cutmix": ("+transforms.c={_target_: paribus.techniques.cutmix.CutMix}",),
    "chain": (
        "+transforms.e={_target_: paribus.techniques.erasing.RandomErasing, prob: 0.5}",
        "+transforms.m={_target_: paribus.techniques.mixup.Mixup}",
        "+transforms.c={_target_: paribus.techniques.cutmix.CutMix, per: sample, prob: 0.7}",
    ),
    "none": (),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("tree"), train=9, sizes=((40, 52), (24, 33)))


def at(rank: int, world: int = WORLD) -> DeviceContext:
    return DeviceContext(torch.device("cpu"), rank=rank, world=world)


def transformed(recipe, loader: Loader, step: int) -> Batch:
    batch = loader.batch(step)
    for transform in recipe.transforms.values():
        batch = transform(batch, Progress(step, STEPS, recipe.seed, loader.steps_per_epoch))
    return batch


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of a decoder made."""
    calls, real = list[int](), TrainDecoder.at

    def recorded(self, step, positions, is_wanted):
        calls.append(len(positions))
        return real(self, step, positions, is_wanted)

    monkeypatch.setattr(TrainDecoder, "at", recorded)
    return calls


@pytest.mark.parametrize("mixing", MIXING)
def test_ranks_decode_once_a_step_and_make_the_batch_of_one_process(
    mixing: str, root: Path, decoded: list[int]
) -> None:
    recipe = recipe_of(*DECODED, f"data.root={root}", f"steps={STEPS}ba", *MIXING[mixing])
    alone = build_loader(recipe, recipe.data(at(0, 1)), at(0, 1))
    ranks = [build_loader(recipe, recipe.data(at(r)), at(r)) for r in range(WORLD)]
    for step in range(STEPS):
        whole = transformed(recipe, alone, step)
        decoded.clear()
        parts = [transformed(recipe, loader, step) for loader in ranks]
        for name in ("inputs", "targets", "ids", "positions"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
        assert len(decoded) == WORLD, "a call a rank: the pool's, which workers would make ahead of the step"
        assert (sum(decoded) == BATCH) == (mixing == "none")


def test_only_what_is_asked_for_is_decoded(root: Path, decoded: list[int]) -> None:
    roll = "+transforms.c={_target_: paribus.techniques.cutmix.CutMix, partner: roll}"
    recipe = recipe_of(*DECODED, f"data.root={root}", roll)
    build_loader(recipe, recipe.data(at(1)), at(1)).batch(0)
    assert decoded == [BATCH // WORLD + 1]  # of a share, the sample before the first is another rank's


def test_what_no_transform_announced_is_decoded_when_it_is_asked_for(root: Path, decoded: list[int]) -> None:
    def plan(step: int, positions: torch.Tensor) -> torch.Tensor:
        return torch.tensor([9, 11])

    whole = images(root)(at(0, 1)).loader(BATCH, 3).batch(1)
    loader = images(root)(at(1)).loader(BATCH, 3)
    assert isinstance(loader, DecodingLoader)
    loader.prepare_partners(plan)
    part = loader.batch(1)
    decoded.clear()
    for asked in ([9, 5, 11, 4], [0, 9, 9, 4, 0, 10], list(range(BATCH))):
        found = part.peers(torch.tensor(asked))
        for name in ("inputs", "targets", "ids", "positions"):
            assert torch.equal(getattr(found, name), getattr(whole, name)[asked]), name
        again = found.peers(torch.tensor([2, 9]))  # as a second mixing transform asks
        assert torch.equal(again.inputs, whole.inputs[[2, 9]])
        assert found.host_positions is not None
        assert found.host_positions.tolist() == asked
    assert part.ids.tolist() == whole.ids[4:8].tolist()
    # 4 to 7, 9 and 11 are ready: each request decodes what it lacks, and the one that follows has all that it had
    assert sum(decoded) == (0 + 1) + (2 + 1) + (6 + 0)


def test_one_process_is_told_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[PartnerPlan]()
    monkeypatch.setattr(DecodingLoader, "prepare_partners", lambda self, plan: told.append(plan))
    recipe = recipe_of(*DECODED, f"data.root={root}", f"steps={STEPS}ba", *MIXING["chain"], "seed=5")
    build_loader(recipe, recipe.data(at(0, 1)), at(0, 1))
    assert not told
    build_loader(recipe, recipe.data(at(0)), at(0))
    (plan,) = told
    assert (plan.size, plan.total, plan.seed, plan.steps_per_epoch) == (BATCH, STEPS, 5, 2)
    assert [type(t).__name__ for t in plan.transforms] == ["Mixup", "CutMix"]
