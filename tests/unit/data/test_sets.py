"""Sets, subsets and loaders: who is in a batch, once, the same wherever it is asked."""

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paribus.core.errors import ConfigError
from paribus.core.evaluation import make_context
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.cifar import CLASSES, Cifar
from paribus.data.digits import Digits
from paribus.data.loaders.subset import _allocate_per_class, sample_stratified, split_training_set
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


SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 0)


@settings(deadline=None)
@given(sizes=SIZES, data=st.data())
def test_no_subset_leaves_a_class_without_an_image(sizes: list[int], data: st.DataObject) -> None:
    """And where proportion alone leaves none without, the subset is the proportional one."""
    targets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    here, total = [k for k, size in enumerate(sizes) if size], len(targets)
    train_size = data.draw(st.integers(len(here), total))
    used, _ = split_training_set(targets, "test", train_size, 0)
    counts = targets[used].bincount(minlength=len(sizes)).tolist()
    assert sum(counts) == train_size
    assert all(counts[k] >= 1 for k in here)
    proportional = _allocate_per_class(sizes, train_size)
    if all(proportional[k] for k in here):
        assert counts == proportional
    if minival := data.draw(st.integers(0, total - len(here))):
        used, held_out = split_training_set(targets, "test", None, minival)
        assert held_out is not None
        assert sorted([*used.tolist(), *held_out.tolist()]) == list(range(total))
        assert len(held_out) == minival
        assert set(targets[used].tolist()) == set(here)
        if minival >= (several := sum(size > 1 for size in sizes)):
            assert len(set(targets[held_out].tolist())) == several


def test_a_small_subset_of_uneven_classes_has_them_all() -> None:
    targets = torch.tensor([0] * 100 + [1] * 10 + [2] * 2)
    used, _ = split_training_set(targets, "test", 22, 0)
    assert targets[used].bincount().tolist() == [19, 2, 1]
    with pytest.raises(
        ConfigError, match=r"data\.train_size: found 2; test has 3 classes, and each needs at least one"
    ):
        split_training_set(targets, "test", 2, 0)
    with pytest.raises(
        ConfigError, match=r"data\.minival: found 110; of the 112 images of test at most 109 can be held"
    ):
        split_training_set(targets, "test", None, 110)


def test_a_split_without_an_image_of_a_class_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    made = Synthetic(size=4, classes=4, n=16, val_n=2, minival=3)
    made(HERE)
    told = capfd.readouterr().err.splitlines()
    assert told == [
        "warning: data: val has no image of 2 of 4 classes: #2, #3",
        "warning: data: minival has no image of 1 of 4 classes: #3",
    ]
    made(at(1, 2))
    assert capfd.readouterr().err == ""


def test_the_names_of_known_classes_are_those_of_their_files(cifar10_root: str) -> None:
    for name, file, key in (
        ("cifar10", "cifar-10-batches-py/batches.meta", "label_names"),
        ("cifar100", "cifar-100-python/meta", "fine_label_names"),
    ):
        path = Path(cifar10_root) / file
        if path.is_file():
            assert CLASSES[name].split() == pickle.loads(path.read_bytes(), encoding="latin1")[key]
    data = Digits(train_size=20)(HERE)
    assert data.names == data.class_ids == tuple("0123456789")


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


def test_the_sample_of_training_images_has_a_size_for_evaluators_and_none_on_record() -> None:
    data = Digits()(HERE)
    assert dict(data.part_sizes) == {"train_sample": 1000}
    assert make_context(data, HERE).sizes == {"train": 1437, "val": 360, "train_sample": 1000}
    assert sum(len(batch) for batch in data.splits["train_sample"](64)) == 1000
