"""Tables: what a row becomes, Adult and COMPAS as their pages describe them, files that are others."""

import shutil
from pathlib import Path

import pytest
import torch

from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.adult import Adult
from paribus.data.compas import Compas
from paribus.data.tabular import Columns, list_values, moments, to_pixels

HERE = DeviceContext(torch.device("cpu"))
COLUMNS = Columns({"age": None, "gain": 999}, ("job",))
ROWS = [{"age": "30", "gain": "0", "job": "b"}, {"age": "50", "gain": "999", "job": "a"}]


def test_rows_become_pixels() -> None:
    values = list_values(ROWS, COLUMNS)
    assert values == {"job": ["a", "b"]}
    pixels = to_pixels(ROWS, COLUMNS, values)
    assert pixels.dtype == torch.uint8
    assert pixels[:, 0, 0].tolist() == [[30, 0, 0, 255], [50, 255, 255, 0]]
    unseen = to_pixels([{"age": "40", "gain": "31", "job": "c"}], COLUMNS, values)
    assert unseen[0, 0, 0].tolist() == [40, 128, 0, 0], "log(32) is half of log(1000), and c is none of the values"
    mean, std = moments(pixels, COLUMNS)
    assert mean == pytest.approx((40 / 255, 0.5, 0, 0))
    assert std == pytest.approx((10 / 255, 0.5, 1, 1))


def groups_of(data: DataSets, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(data.splits[split](4096)) if split != "train" else _epoch(data)
    return tuple(torch.cat(parts) for parts in zip(*((b.targets, b.also["group"]) for b in batches), strict=True))  # type: ignore[return-value]


def _epoch(data: DataSets) -> list:  # type: ignore[type-arg]
    loader = data.loader(1, 0) if data.sizes["train"] < 10 else data.loader(data.sizes["train"], 0)
    return [loader.batch(0)]


@pytest.mark.parametrize("kind", [Adult, Compas])
def test_groups_are_known_of_a_share_of_each_cell(kind: type[Adult | Compas], tables: str) -> None:
    data = kind(root=tables, annotated=0.1)(HERE)
    whole = kind(root=tables)(HERE)
    assert data.checksum != whole.checksum
    (targets, known), (same, groups) = (groups_of(d, "train") for d in (data, whole))
    assert torch.equal(targets, same)
    for label in (0, 1):
        for group in (0, 1):
            cell = (targets == label) & (groups == group)
            assert int((known[cell] >= 0).sum()) == pytest.approx(0.1 * int(cell.sum()), abs=0.51)
            assert set(known[cell].tolist()) == {-1, group}
    assert (groups_of(data, "val")[1] >= 0).all()
    other = groups_of(kind(root=tables, annotated=0.1, draw=1)(HERE), "train")
    assert not torch.equal(other[1], known), "another draw annotates others"


def test_adult_is_the_one_described(tables: str) -> None:
    data = Adult(root=tables)(HERE)
    assert (data.sizes["train"], data.sizes["val"]) == (30_162, 15_060)
    assert (data.spec.channels, data.spec.height, data.spec.width) == (85, 1, 1)
    assert data.class_counts == (22_654, 7_508)
    targets, groups = groups_of(data, "train")
    assert int(groups.sum()) == 20_380
    assert float(targets[groups == 1].float().mean()) == pytest.approx(0.3138, abs=1e-4)
    inputs = _epoch(data)[0].inputs[:, :, 0, 0]
    assert inputs[:, :5].mean(0).abs().max() < 1e-3
    assert (inputs[:, :5].std(0) - 1).abs().max() < 1e-3
    assert set(inputs[:, 5:].unique().tolist()) == {0.0, 1.0}
    assert (inputs[:, 5:].sum(1) == 6).all(), "one value of each category"


def test_compas_is_the_one_described(tables: str) -> None:
    data = Compas(root=tables)(HERE)
    assert (data.sizes["train"], data.sizes["val"]) == (3_695, 1_583)
    assert (data.spec.channels, data.spec.height, data.spec.width) == (9, 1, 1)
    counts = [groups_of(data, split)[1].bincount() for split in ("train", "val")]
    assert (counts[0] + counts[1]).tolist() == [3_175, 2_103], "as ProPublica's analysis has them"
    other = Compas(root=tables, draw=1)(HERE)
    assert not torch.equal(next(iter(data.splits["val"](9))).inputs, next(iter(other.splits["val"](9))).inputs)


def test_files_that_are_missing_or_others_are_told(tmp_path: Path, tables: str) -> None:
    with pytest.raises(ConfigError, match=r"Adult is not there as UCI ships it.*point data.root or PARIBUS_DATA"):
        Adult(root=str(tmp_path))(HERE)
    with pytest.raises(ConfigError, match=r"data.root: COMPAS is not there"):
        Compas(root=str(tmp_path))(HERE)
    shutil.copytree(Path(tables) / "compas", tmp_path / "compas")
    Compas(root=str(tmp_path))(HERE)
    with (tmp_path / "compas" / "compas-two-years.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(ConfigError, match=r"is another file \(sha256 .*expected 5d4b0e8d45e0"):
        Compas(root=str(tmp_path))(HERE)
