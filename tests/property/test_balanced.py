"""data.sampling=balanced: classes equally often in an epoch, samples of a class equally often, the same anywhere."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.image_trees import images, tree
from helpers.trainings import recipe_of, stopping_after, trained
from paribus.core.batch import COPY_OFFSET
from paribus.core.protocols import DeviceContext, Loader
from paribus.data.loaders.epoch_order import BatchIndex, balanced_order, epoch_order

CPU = torch.device("cpu")
labels = st.lists(st.integers(0, 6), min_size=1, max_size=60).map(torch.tensor)


@settings(max_examples=60, deadline=None)
@given(targets=labels, m=st.integers(1, 150), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_classes_and_the_samples_within_each_come_equally_often(
    targets: torch.Tensor, m: int, seed: int, epoch: int
) -> None:
    rows, copies = balanced_order(targets, m, seed, epoch)
    assert len(rows) == len(copies) == m
    present = targets.unique()
    of_class = torch.stack([(targets[rows] == label).sum() for label in present])
    assert int(of_class.max() - of_class.min()) <= 1
    assert int(of_class.sum()) == m
    for label in present.tolist():
        members = torch.nonzero(targets == label).flatten()
        times = torch.stack([(rows == row).sum() for row in members])
        assert int(times.max() - times.min()) <= 1
    # the k-th time a sample comes it is its copy k, so that each is augmented anew
    assert len({*zip(rows.tolist(), copies.tolist(), strict=True)}) == m
    for row in rows.unique():
        assert sorted(copies[rows == row].tolist()) == list(range(int((rows == row).sum())))
    assert all(map(torch.equal, (rows, copies), balanced_order(targets, m, seed, epoch)))


@settings(max_examples=30, deadline=None)
@given(targets=labels, repeats=st.integers(1, 4), seed=st.integers(0, 9))
def test_with_repeated_augmentation_each_position_is_repeated(targets: torch.Tensor, repeats: int, seed: int) -> None:
    rows, copies = epoch_order(len(targets), seed, 0, repeats, targets)
    assert copies is not None
    assert len(rows) == len(targets)
    assert all(len(part.unique()) == 1 for part in rows.split(repeats))
    assert len({*zip(rows.tolist(), copies.tolist(), strict=True)}) == len(rows)


def test_epochs_and_seeds_draw_anew_and_shuffling_is_what_it_was() -> None:
    targets = torch.tensor([0] * 30 + [1] * 5)
    orders = [tuple(balanced_order(targets, 35, seed, epoch)[0].tolist()) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    larger = [set(balanced_order(targets, 35, 0, epoch)[0].tolist()) & set(range(30)) for epoch in range(8)]
    assert set.union(*larger) == set(range(30))  # of a large class other images come in other epochs
    more = [int((targets[balanced_order(targets, 35, 0, epoch)[0]] == 1).sum()) for epoch in range(12)]
    assert set(more) == {17, 18}  # 35 is odd: not the same class has one more each time
    assert torch.equal(epoch_order(35, 0, 1)[0], torch.randperm(35, generator=_order_stream(1)))


def _order_stream(epoch: int) -> torch.Generator:
    from paribus.core.streams import stream

    return stream(0, "order", epoch)


@settings(max_examples=30, deadline=None)
@given(targets=labels, parts=st.sampled_from([1, 2, 3, 4]), steps=st.integers(0, 5))
def test_ranks_share_one_order(targets: torch.Tensor, parts: int, steps: int) -> None:
    size = len(targets) // parts * parts
    if not size:
        return
    whole = BatchIndex(len(targets), 0, 1, size, 1, targets)
    shares = [BatchIndex(len(targets), 0, 1, size, parts, targets) for _ in range(parts)]
    got = [index.samples_at(steps, torch.arange(size)[index.share(rank)]) for rank, index in enumerate(shares)]
    wanted = whole.samples_at(steps, torch.arange(size))
    assert torch.equal(torch.cat([rows for _, rows, _ in got]), wanted[1])
    assert wanted[2] is not None
    assert torch.equal(torch.cat([copies for _, _, copies in got if copies is not None]), wanted[2])


def batches(loader: Loader, count: int) -> list[tuple[torch.Tensor, ...]]:
    return [(b.inputs, b.targets, b.ids) for b in map(loader.batch, range(count))]


def test_a_batch_is_the_same_with_any_workers_and_ranks(tmp_path: Path) -> None:
    root = tree(tmp_path, classes=2, train=8, val=1)
    for path in sorted((root / "train" / "class_1").iterdir())[2:]:
        path.unlink()
    settings = {"sampling": "balanced", "flip": True}

    def loader(workers: int, rank: int = 0, world: int = 1) -> Loader:
        place = DeviceContext(CPU, rank=rank, world=world)
        return images(root, workers=workers, **settings)(place).loader(4, 5)

    alone, apart = batches(loader(0), 4), batches(loader(2), 4)
    assert all(torch.equal(a, b) for one, two in zip(alone, apart, strict=True) for a, b in zip(one, two, strict=True))
    ranks = [batches(loader(0, rank, 2), 4) for rank in range(2)]
    for step, whole in enumerate(alone):
        for i, part in enumerate(whole):
            assert torch.equal(torch.cat([ranks[0][step][i], ranks[1][step][i]]), part)
    ids = torch.cat([ids for _, _, ids in alone[:2]])  # 10 images, 2 batches of 4 an epoch
    inputs = torch.cat([inputs for inputs, _, _ in alone[:2]])
    again = [k for k in range(8) if ids[k] >= COPY_OFFSET]
    assert again  # the small class comes more than once
    for k in again:
        first = [j for j in range(8) if ids[j] == ids[k] % COPY_OFFSET]
        assert not any(torch.equal(inputs[j], inputs[k]) for j in first)


@pytest.mark.parametrize("technique", [(), ("cutmix",)])
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path, technique: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = ("experiment=smoke", "steps=6ba", "every.log=1ba", "data.sampling=balanced", "data.n=80", "batch_size=32")
    through = trained(tmp_path / "a", *recipe, techniques=technique)
    with monkeypatch.context() as patch:
        stopping_after(patch, 3)
        trained(tmp_path / "b", *recipe, techniques=technique)
    assert trained(tmp_path / "b", *recipe, techniques=technique).same_as(through)


def test_a_set_in_memory_is_balanced_by_its_own_labels() -> None:
    recipe = recipe_of("experiment=smoke", "data=digits", "data.sampling=balanced", "batch_size=100")
    loader = recipe.data(DeviceContext(CPU)).loader(100, 0)
    counts = torch.cat([loader.batch(step).targets for step in range(loader.steps_per_epoch)]).bincount(minlength=10)
    plain = recipe_of("experiment=smoke", "data=digits").data(DeviceContext(CPU)).loader(100, 0)
    assert int(counts.max() - counts.min()) <= 15  # 37 of 1,437 positions are in the batch that is dropped
    assert plain.batch(0).targets.tolist() != loader.batch(0).targets.tolist()
