"""Sets, subsets and loaders: who is in a batch, once, the same wherever it is asked."""

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.cifar import Cifar
from paribus.data.digits import Digits
from paribus.data.loaders.subset import sample_stratified
from paribus.data.synthetic import Synthetic

HERE = DeviceContext(torch.device("cpu"))


def at(rank: int, world: int) -> DeviceContext:
    return DeviceContext(torch.device("cpu"), rank=rank, world=world)


def validation_ids(data: DataSets, split: str, batch_size: int) -> list[int]:
    return [i for batch in data.splits[split](batch_size) for i in batch.ids.tolist()]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 97), world=st.integers(1, 7), batch_size=st.integers(1, 100))
def test_evaluation_sees_every_sample_once_at_any_size(n: int, world: int, batch_size: int) -> None:
    made = Synthetic(size=4, n=8, val_n=n)
    seen = [i for r in range(world) for i in validation_ids(made(at(r, world)), "val", batch_size)]
    assert sorted(seen) == list(range(n))


def test_an_epoch_is_a_permutation_and_epochs_differ() -> None:
    loader = Synthetic(size=4, n=24)(HERE).loader(8, 3)
    assert loader.steps_per_epoch == 3
    epochs = [torch.cat([loader.batch(3 * e + k).ids for k in range(3)]) for e in range(3)]
    assert all(sorted(e.tolist()) == list(range(24)) for e in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_a_batch_is_the_same_whenever_and_wherever_it_is_asked() -> None:
    made = Synthetic(size=6, n=24, flip=True)
    forward = [made(HERE).loader(12, 0).batch(s) for s in range(6)]
    loader = made(HERE).loader(12, 0)
    for step in (5, 0, 3, 3, 1):
        assert torch.equal(loader.batch(step).inputs, forward[step].inputs)
    for world in (2, 3, 4):
        parts = [made(at(r, world)).loader(12, 0).batch(4) for r in range(world)]
        assert torch.equal(torch.cat([p.inputs for p in parts]), forward[4].inputs)
        everywhere = torch.arange(12)
        assert torch.equal(parts[0].peers(everywhere).inputs, forward[4].inputs)


def test_digits_have_a_fixed_stratified_split() -> None:
    data = Digits()(HERE)
    assert data.sizes == {"train": 1437, "val": 360}
    counts = torch.cat([b.targets for b in data.splits["val"](64)]).bincount()
    assert counts.min() >= 34
    train = {i for b in range(22) for i in data.loader(64, 0).batch(b).ids.tolist()}
    assert not train & set(validation_ids(data, "val", 100))
    assert data.checksum.startswith("13201f95739720dc")


def test_a_minival_is_held_out_and_subsets_are_nested() -> None:
    small, large = (Digits(train_size=n, minival=100)(HERE) for n in (200, 400))
    ids = [{i for s in range(n) for i in d.loader(100, 0).batch(s).ids.tolist()} for d, n in ((small, 2), (large, 4))]
    held_out = set(validation_ids(large, "minival", 64))
    assert len(held_out) == 100
    assert ids[0] < ids[1]
    assert not ids[1] & held_out
    assert small.checksum != large.checksum
    with pytest.raises(ConfigError, match=r"data\.minival: found 5000"):
        Digits(minival=5000)(HERE)


def test_strata_keep_their_proportions() -> None:
    targets = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    chosen = sample_stratified(targets, 10, "test")
    assert targets[chosen].bincount().tolist() == [5, 3, 2]
    assert torch.equal(chosen, sample_stratified(targets, 10, "test"))
    assert not torch.equal(chosen, sample_stratified(targets, 10, "another name"))


def test_real_cifar10_is_checked_and_its_subset_is_this_one(cifar10_root: str) -> None:
    data = Cifar(name="cifar10", root=cifar10_root, train_size=10_000, minival=1000)(HERE)
    assert data.sizes == {"train": 10_000, "minival": 1000, "val": 10_000}
    assert data.checksum.startswith("2767acb6c951b793")
    batch = data.loader(500, 0).batch(0)
    assert batch.inputs.shape == (500, 3, 32, 32)
    assert abs(batch.inputs.mean()) < 0.4  # normalised, but for the black borders of crops
    assert 0.5 < batch.inputs.std() < 1.5
    small = Cifar(name="cifar10", root=cifar10_root, size=16)(HERE)
    assert small.spec.height == 16
    assert next(iter(small.splits["val"](10))).inputs.shape == (10, 3, 16, 16)


def test_a_damaged_file_is_told_before_it_is_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": 0}))
    with pytest.raises(ConfigError, match="data_batch_1 is damaged or not the official file"):
        Cifar(name="cifar10", root=str(tmp_path))(HERE)
    with pytest.raises(ConfigError, match="cifar100 is not there"):
        Cifar(name="cifar100", root=str(tmp_path))(HERE)
