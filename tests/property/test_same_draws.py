"""What a batch holds depends on data, seed and step alone: not on workers, ranks, or where the pixels come from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers.image_trees import images, tree
from helpers.packs import QUIET
from paribus.core.batch import Batch
from paribus.core.partners import PartnerPlan
from paribus.core.progress import Progress
from paribus.core.protocols import DeviceContext
from paribus.data.images import ImageSet
from paribus.data.loaders import decode_batch, from_files
from paribus.data.loaders.from_files import DecodingLoader
from paribus.data.ops.draws import SampleRandom
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.techniques.cutmix import CutMix
from paribus.techniques.mixup import Mixup

BATCH = 6
ALONE = DeviceContext(torch.device("cpu"))


def at(rank: int, world: int) -> DeviceContext:
    return DeviceContext(torch.device("cpu"), rank=rank, world=world)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def oblongs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("oblongs"), sizes=((40, 52), (61, 37), (24, 90)), ending=".jpg")


def loader(made: ImageSet, place: DeviceContext = ALONE, seed: int = 3) -> DecodingLoader:
    found = made(place).loader(BATCH, seed)
    assert isinstance(found, DecodingLoader)
    return found


def packed(made: ImageSet, place: DeviceContext = ALONE) -> Callable[[int], Batch]:
    """Batches of the same set from its pack, which keeps files of 40×40 pixels as they are."""
    prepare(PrepareRequest("folder", Path(made.root or ""), 40), QUIET)
    return replace(made, form="packed", pack_size=40)(place).loader(BATCH, 3).batch


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, key), getattr(b, key)) for key in ("inputs", "targets", "ids", "positions"))


def joined(parts: list[Batch]) -> Batch:
    whole = {k: torch.cat([getattr(p, k) for p in parts]) for k in ("inputs", "targets", "ids", "positions")}
    return replace(parts[0], **whole, fetch=None)


@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_changes_nothing(workers: int, oblongs: Path) -> None:
    alone, several = (loader(images(oblongs, repeats=2, workers=n)) for n in (0, workers))
    for step in (0, 1, 2, 9, 10, 3):  # in turn, over the epoch's end, forward and back
        assert same(alone.batch(step), several.batch(step)), step
    several.close()


def test_workers_make_the_partners_of_a_rank_too(oblongs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch and its partners, one's own and another rank's, without a decoder in this process."""
    transforms = (Mixup(), CutMix(per="sample", prob=0.7))
    whole = loader(images(oblongs))
    rank = loader(images(oblongs, workers=2), at(1, 2))
    rank.prepare_partners(PartnerPlan(transforms, BATCH, 12, 5, rank.steps_per_epoch))

    def refuse(*_: object) -> None:
        raise AssertionError("decoded while the step waits")

    monkeypatch.setattr(from_files, "ThreadPoolExecutor", refuse)
    for step in (0, 1, 2, 9, 3):
        alone, part = whole.batch(step), rank.batch(step)
        for transform in transforms:
            alone, part = (transform(b, Progress(step, 12, 5, rank.steps_per_epoch)) for b in (alone, part))
        assert torch.equal(part.inputs, alone.inputs[BATCH // 2 :])
        assert torch.equal(part.targets, alone.targets[BATCH // 2 :])
    rank.close()


@settings(max_examples=25, deadline=None)
@given(
    step=st.integers(0, 40),
    seed=st.integers(0, 2**62),
    world=st.sampled_from([2, 3]),
    repeats=st.integers(1, 3),
    train_size=st.sampled_from([None, 12, 19]),
)
def test_ranks_share_one_batch(
    step: int, seed: int, world: int, repeats: int, train_size: int | None, oblongs: Path
) -> None:
    made = images(oblongs, repeats=repeats, train_size=train_size)
    whole = loader(made, seed=seed).batch(step)
    parts = [loader(made, at(r, world), seed).batch(step) for r in range(world)]
    assert same(joined(parts), whole)
    anywhere = torch.randperm(BATCH, generator=torch.Generator().manual_seed(step))
    for part in parts:  # partners: some of them one's own, some decoded anew
        assert torch.equal(part.peers(anywhere).inputs, whole.inputs[anywhere])
        assert torch.equal(part.peers(anywhere).targets, whole.targets[anywhere])
        assert torch.equal(part.peers(anywhere).ids, whole.ids[anywhere])


@pytest.mark.parametrize("settings", [{}, {"repeats": 3, "interpolation": "bicubic"}, {"train_size": 15, "minival": 6}])
def test_packed_and_folder_form_agree_bit_for_bit(settings: dict[str, Any], squares: Path) -> None:
    made = images(squares, **settings)
    decoding, resident = loader(made).batch, packed(made)
    parts = [packed(made, at(r, 2)) for r in range(2)]
    assert all(same(joined([part(step) for part in parts]), resident(step)) for step in range(3))
    assert all(same(decoding(step), resident(step)) for step in range(9))


class ByPosition(SampleRandom):
    """The mistake that these tests are for: numbers by place in the batch."""

    def beside_ids(self, name: str, n: int) -> Tensor:
        return super(ByPosition, replace(self, ids=torch.arange(len(self.ids)))).beside_ids(name, n)


@pytest.fixture
def mistaken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_batch, "SampleRandom", ByPosition)
    monkeypatch.setattr(from_files, "SampleRandom", ByPosition)


@pytest.mark.usefixtures("mistaken")
def test_negative_control_draws_by_position_differ_between_ranks_and_forms(oblongs: Path, squares: Path) -> None:
    whole = loader(images(oblongs)).batch(1)
    parts = [loader(images(oblongs), at(r, 2)).batch(1) for r in range(2)]
    assert not same(joined(parts), whole)
    assert not torch.equal(parts[0].peers(torch.arange(BATCH)).inputs, whole.inputs)
    made = images(squares)
    assert not same(loader(made).batch(1), packed(made)(1))


def test_evaluation_sees_every_image_once_whatever_workers_and_ranks(oblongs: Path) -> None:
    whole = joined(list(images(oblongs)(ALONE).splits["val"](15)))
    assert whole.ids.tolist() == list(range(15))
    for workers, world, batch_size in ((2, 2, 4), (0, 4, 7), (0, 16, 3)):
        parts = [
            joined(list(images(oblongs, workers=workers)(at(r, world)).splits["val"](batch_size))) for r in range(world)
        ]
        assert torch.equal(torch.cat([p.inputs for p in parts]), whole.inputs)
        assert torch.cat([p.ids for p in parts]).tolist() == whole.ids.tolist()
