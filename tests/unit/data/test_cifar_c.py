"""CIFAR-10-C's files as data for evaluation, small ones made up here: splits, order, shares, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.data.cifar import CLASSES
from paribus.data.cifar_c import KINDS, CorruptedCifar
from paribus.data.ops.crop_flip import downsample

N = 7  # images of each severity
PLACE = DeviceContext(torch.device("cpu"))


def pixels_of(kind: str) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(KINDS.index(kind))
    return generator.integers(0, 256, (5 * N, 32, 32, 3), dtype=np.uint8)


LABELS = np.tile((np.arange(N) * 3 % 10).astype(np.uint8), 5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    for kind in KINDS:
        np.save(folder / f"{kind}.npy", pixels_of(kind))
    np.save(folder / "labels.npy", LABELS)
    return tmp_path


def read(split: Any, batch_size: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batches = list(split(batch_size))
    return tuple(torch.cat([getattr(b, name) for b in batches]) for name in ("inputs", "targets", "ids"))  # type: ignore[return-value]


def as_inputs(pixels: np.ndarray[Any, Any], data: CorruptedCifar) -> torch.Tensor:
    sets = data(PLACE)
    channels = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (channels - torch.tensor(sets.mean).view(3, 1, 1)) / torch.tensor(sets.std).view(3, 1, 1)


def test_one_kind_at_one_severity(root: Path) -> None:
    for where in (root, root / "CIFAR-10-C"):
        data = CorruptedCifar(name="cifar10_c", root=str(where), kind="fog", severity=3)
        sets = data(PLACE)
        assert set(sets.splits) == {"val"}
        assert sets.sizes == {"val": N}
        assert sets.names == tuple(CLASSES["cifar10"].split())
        inputs, targets, ids = read(sets.splits["val"])
        torch.testing.assert_close(inputs, as_inputs(pixels_of("fog")[2 * N : 3 * N], data))
        assert targets.tolist() == LABELS[:N].tolist()
        assert ids.tolist() == list(range(2 * N, 3 * N))


def test_all_kinds_together_and_each_alone(root: Path) -> None:
    data = CorruptedCifar(name="cifar10_c", root=str(root))
    sets = data(PLACE)
    assert list(sets.splits) == ["val", *KINDS]
    assert sets.sizes == {"val": 15 * 5 * N, **dict.fromkeys(KINDS, 5 * N)}
    inputs, targets, ids = read(sets.splits["val"], 64)
    torch.testing.assert_close(inputs, as_inputs(np.concatenate([pixels_of(kind) for kind in KINDS]), data))
    assert torch.equal(targets, torch.from_numpy(np.tile(LABELS, 15)).long())
    assert torch.equal(ids, torch.arange(15 * 5 * N))
    torch.testing.assert_close(read(sets.splits["snow"])[0], as_inputs(pixels_of("snow"), data))
    with pytest.raises(AssertionError):  # negative control
        torch.testing.assert_close(read(sets.splits["snow"])[0], as_inputs(pixels_of("frost"), data))


@pytest.mark.parametrize("world", [2, 4, 40])
def test_processes_share_the_images_in_order(root: Path, world: int) -> None:
    data = CorruptedCifar(name="cifar10_c", root=str(root), severity=2)
    whole = read(data(PLACE).splits["val"])
    ranks = [data(DeviceContext(torch.device("cpu"), rank=rank, world=world)) for rank in range(world)]
    shares = [read(sets.splits["val"], 3) for sets in ranks]
    for k in range(3):
        assert torch.equal(torch.cat([share[k] for share in shares]), whole[k])
    n = len(whole[2])
    assert [len(share[2]) for share in shares] == [n * (r + 1) // world - n * r // world for r in range(world)]


def test_fewer_pixels_are_averages(root: Path) -> None:
    data = CorruptedCifar(name="cifar10_c", root=str(root), kind="fog", severity=1, size=8)
    small = downsample(torch.from_numpy(pixels_of("fog")[:N]), 8).numpy()
    torch.testing.assert_close(read(data(PLACE).splits["val"])[0], as_inputs(small, data))


def test_there_is_nothing_to_train_on(root: Path) -> None:
    sets = CorruptedCifar(name="cifar10_c", root=str(root), kind="fog")(PLACE)
    with pytest.raises(ConfigError, match="cifar10_c has no training images; it is for paribus eval RUN"):
        sets.loader(2, 0)


def refused(root: Path, **settings: Any) -> str:
    with pytest.raises(ConfigError) as told:
        CorruptedCifar(name="cifar10_c", root=str(root), **settings)(PLACE)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_what_is_wrong_with_the_files_is_told_in_one_line(root: Path, tmp_path: Path) -> None:
    folder = root / "CIFAR-10-C"
    assert "fogg is not there" in refused(root, kind="fogg")
    assert "did you mean fog?" in refused(root, kind="fogg")
    np.save(folder / "fog.npy", pixels_of("fog")[:-1])
    assert "found uint8 of shape (34, 32, 32, 3); should be uint8 of shape (35, 32, 32, 3)" in refused(root, kind="fog")
    np.save(folder / "fog.npy", pixels_of("fog").astype(np.float32))
    assert "found float32" in refused(root, kind="fog")
    (folder / "fog.npy").write_bytes(b"no array")
    assert "fog.npy is damaged or no array" in refused(root, kind="fog")
    np.save(folder / "fog.npy", np.array([{}]), allow_pickle=True)
    assert "fog.npy is damaged or no array" in refused(root, kind="fog")
    (folder / "fog.npy").write_bytes(b"")
    assert "fog.npy is damaged or no array" in refused(root)
    (folder / "frost.npy").unlink()
    (folder / "fog.npy").unlink()
    assert "frost is not there" in refused(root)
    np.save(folder / "labels.npy", LABELS + 1)
    assert "found labels from 1 to 10; should be 0 to 9" in refused(root)
    np.save(folder / "labels.npy", LABELS[:-1])
    assert "as many for each of 5 severities" in refused(root)
    (folder / "labels.npy").unlink()
    assert "cifar10_c is not there" in refused(root)
    assert "cifar10_c is not there" in refused(tmp_path / "nowhere")
