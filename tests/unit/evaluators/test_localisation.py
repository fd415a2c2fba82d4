"""Boxes from maps: against a flood fill, at any batch size and sharing; what is refused before training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.evaluations import plain_context
from helpers.image_trees import images, tree
from helpers.trainings import recipe_of
from paribus.core.batch import Batch
from paribus.core.build import to_config
from paribus.core.errors import ConfigError
from paribus.core.evaluation import Findings
from paribus.core.protocols import DeviceContext, Spec
from paribus.core.streams import stream
from paribus.core.sums import Sums
from paribus.engine.evaluate import check_method, evaluate
from paribus.evaluators import localisation
from paribus.evaluators.localisation import Localisation, find_boxes, measure_overlap
from paribus.evaluators.maps import normalise_maps
from paribus.methods.evaluated import PlainNetwork
from paribus.models.cifar_resnet import CifarResNet
from paribus.models.vit import ViT
from paribus.recipe.build import build_evaluators

N, CLASSES, MAP, SIDE = 61, 4, 5, 12
GRID = np.arange(21) / 20


def flood_fill(score_map: list[list[float]], threshold: float) -> tuple[int, int, int, int] | None:
    """The box of the largest part at or above the threshold, pixel by pixel."""
    h, w = len(score_map), len(score_map[0])
    todo = {(y, x) for y in range(h) for x in range(w) if score_map[y][x] >= threshold}
    best: list[tuple[int, int]] = []
    for start in sorted(todo):
        if start not in todo:
            continue
        part, front = [], [start]
        todo.remove(start)
        while front:
            y, x = front.pop()
            part.append((y, x))
            for other in [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if other in todo:
                    todo.remove(other)
                    front.append(other)
        if len(part) > len(best):
            best = part
    if not best:
        return None
    ys, xs = [y for y, _ in best], [x for _, x in best]
    return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def compare(find: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    draws = np.random.default_rng(0)
    for k in range(60):
        h, w = draws.integers(1, 9, 2)
        score_map = draws.integers(0, 21, (h, w)) / 20 if k % 2 else draws.random((h, w))
        wanted = [flood_fill(score_map.tolist(), float(t)) for t in GRID]
        found = find(score_map.astype(np.float32), GRID.astype(np.float32))
        for box, right in zip(found, wanted, strict=True):
            assert np.isnan(box).all() if right is None else tuple(box) == right


def test_boxes_are_those_of_a_flood_fill() -> None:
    compare(find_boxes)


@pytest.mark.parametrize("wrong", ["corners apart", "first part", "strictly above"])
def test_negative_control_other_boxes_are_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = find_boxes
    if wrong == "corners apart":
        cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
        monkeypatch.setattr(localisation, "_NEIGHBOURS", np.stack([cross * False, cross, cross * False]))
    elif wrong == "first part":
        monkeypatch.setattr(localisation.np, "bincount", lambda labels, minlength: np.ones(minlength))
    else:

        def find(score_map: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
            return find_boxes(score_map, np.nextafter(thresholds, np.float32(2)))

    with pytest.raises(AssertionError):
        compare(find)


def test_a_map_of_nothing_has_no_box() -> None:
    flat = normalise_maps(torch.full((1, 3, 3), 7.0), (6, 6))[0].numpy()
    assert find_boxes(flat, GRID)[0].tolist() == [0, 0, 6, 6]
    assert np.isnan(find_boxes(flat, GRID)[1:]).all()
    assert np.isnan(find_boxes(np.full((4, 4), np.nan), GRID)).all()
    assert not measure_overlap(np.full((2, 4), np.nan), np.array([0.0, 0, 1, 1])).any()


def test_maps_are_resized_then_normalised() -> None:
    maps = torch.randn(3, 4, 5, generator=stream(0, "maps")) * 9
    made = normalise_maps(maps, (16, 10))
    assert made.shape == (3, 16, 10)
    assert made.amin((1, 2)).tolist() == [0, 0, 0]
    assert made.amax((1, 2)).tolist() == [1, 1, 1]
    whole = nn.functional.interpolate(maps[:, None], (16, 10), mode="bilinear")[:, 0]
    for one, raw in zip(made, whole, strict=True):
        torch.testing.assert_close(one * (raw.max() - raw.min()) + raw.min(), raw, atol=1e-5, rtol=1e-5)


class Table(nn.Module):
    """Scores and maps of each image from a table, by the number in its first pixel."""

    def __init__(self) -> None:
        super().__init__()
        draw = stream(0, "table")
        self.targets = torch.randint(0, CLASSES, (N,), generator=draw)
        self.scores = torch.randint(0, 3, (N, CLASSES), generator=draw).float()
        self.scores[torch.arange(N), self.targets] += 1
        corner = torch.randint(0, SIDE - 6, (N, 2), generator=draw).float()
        self.boxes = torch.cat([corner, corner + torch.randint(4, 7, (N, 2), generator=draw)], 1)
        # the maps of the true class and of one more show the object, more or less, the others something else
        self.maps = torch.rand(N, CLASSES, MAP, MAP, generator=draw)
        for i, (x1, y1, x2, y2) in enumerate((self.boxes * MAP / SIDE).round().int().tolist()):
            self.maps[i, [int(self.targets[i]), (int(self.targets[i]) + 1) % CLASSES], y1:y2, x1:x2] += 0.9
        self.boxes[::5] = float("nan")

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scores[inputs[:, 0, 0, 0].long()]

    def attribute(self, inputs: Tensor, classes: Tensor) -> Tensor:
        return self.maps[inputs[:, 0, 0, 0].long(), classes]


TABLE = Table()
CONTEXT = plain_context(CLASSES, side=SIDE)
SPLIT_IDS = {"minival": torch.arange(0, 26), "val": torch.arange(26, N)}


class Method(PlainNetwork):
    def prepare_eval(self) -> None: ...


def batches_of(ids: Tensor) -> Callable[[int], list[Batch]]:
    def batches(size: int) -> list[Batch]:
        made = []
        for part in ids.split(size) if len(ids) else [ids]:
            inputs = part[:, None, None, None].expand(-1, 1, SIDE, SIDE).float()
            also = {"box": TABLE.boxes[part]}
            made.append(Batch(inputs, TABLE.targets[part], part, part, len(part), CLASSES, also=also))
        return made

    return batches


def measured(size: int = 8, of: str = "predicted") -> Findings:
    evaluator = Localisation(batch_size=size, of=of, thresholds=21)  # type: ignore[arg-type]
    splits = {name: batches_of(ids) for name, ids in SPLIT_IDS.items()}
    return evaluate(Method(TABLE), {"localisation": evaluator}, splits, CONTEXT)  # type: ignore[arg-type]


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """On a grid of quarter pixels, counted."""
    cells = [
        {(x, y) for x in range(int(4 * x1), int(4 * x2)) for y in range(int(4 * y1), int(4 * y2))}
        for x1, y1, x2, y2 in (a, b)
    ]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


def account(of: str) -> dict[str, float]:
    """Image by image and threshold by threshold."""
    shares: dict[str, list[list[bool]]] = {}
    known: list[bool] = []
    for split, ids in SPLIT_IDS.items():
        shares[split] = []
        for i in ids.tolist():
            if i % 5 == 0:
                continue
            scores, target = TABLE.scores[i].tolist(), int(TABLE.targets[i])
            predicted = scores.index(max(scores))
            raw = TABLE.maps[i, predicted if of == "predicted" else target]
            large = nn.functional.interpolate(raw[None, None], (SIDE, SIDE), mode="bilinear")[0, 0]
            large = (large - large.min()) / (large.max() - large.min())
            boxes = [flood_fill(large.tolist(), float(t)) for t in GRID]
            wanted = tuple(TABLE.boxes[i].tolist())
            shares[split].append([box is not None and overlap(box, wanted) >= 0.5 for box in boxes])
            if split == "val":
                known.append(predicted == target)
    sums = {split: [sum(column) for column in zip(*rows, strict=True)] for split, rows in shares.items()}
    k = sums["minival"].index(max(sums["minival"]))
    n = len(shares["val"])
    both = sum(row[k] and knows for row, knows in zip(shares["val"], known, strict=True))
    return {
        "val/box_acc": sums["val"][k] / n,
        "val/box_acc_known_class": both / n,
        "val/box_threshold": k / 20,
        "val/max_box_acc": max(sums["val"]) / n,
    }


@pytest.mark.parametrize("of", ["predicted", "true"])
def test_the_metrics_are_those_of_an_account_image_by_image(of: str) -> None:
    found, wanted = measured(of=of), account(of)
    assert found.metrics == wanted
    assert 0 < wanted["val/box_acc_known_class"] < wanted["val/box_acc"] < 1
    curve = found.details["localisation"]["val/box_acc"]["curve"]
    assert curve["y"][curve["x"].index(wanted["val/box_threshold"])] == wanted["val/box_acc"]
    assert max(curve["y"]) == wanted["val/max_box_acc"]
    assert set(found.metrics) == set(Localisation().keys)


def test_negative_control_the_other_class_is_noticed() -> None:
    with pytest.raises(AssertionError):
        assert measured(of="true").metrics == account("predicted")


def test_three_batch_sizes_give_the_same() -> None:
    one, *others = (measured(size) for size in (1, 7, 64))
    assert all(other == one for other in others)


@pytest.mark.parametrize("world", [2, 4, 30])  # of 30 some have no image
def test_counts_of_processes_add_up(world: int) -> None:
    evaluator = Localisation(thresholds=21, batch_size=3)
    shares = list[Sums]()
    for rank in range(world):
        ids = {k: v[len(v) * rank // world : len(v) * (rank + 1) // world] for k, v in SPLIT_IDS.items()}
        shares.append(evaluator(Method(TABLE), {k: batches_of(v) for k, v in ids.items()}, CONTEXT))
    names = shares[0].tables.keys()
    assert all(share.tables.keys() == names for share in shares)
    total = Sums(tables={name: sum(share.tables[name] for share in shares) for name in names})  # type: ignore[misc]
    assert total.tables["val/boxes"].dtype == torch.int64
    assert evaluator.derived(total, CONTEXT) == measured().metrics


def test_a_threshold_from_where_it_is_reported_is_refused() -> None:
    with pytest.raises(ValueError, match=r"threshold_split is val, which is reported"):
        Localisation(threshold_split="val")


def test_networks_without_such_maps_are_refused_before_training() -> None:
    vit = Method(ViT(patch=4, depths=(1,), heads=1, head_dim=8)(Spec(CLASSES, 3, SIDE, SIDE)))
    told = r"evaluators\.localisation: VisionTransformer does not end in a global average pool and one linear layer"
    with pytest.raises(ConfigError, match=told):
        check_method(vit, {"localisation": Localisation()}, CONTEXT)
    net = CifarResNet(depth=8, width=4)(Spec(CLASSES, 3, SIDE, SIDE)).train()
    check_method(Method(net), {"localisation": Localisation()}, CONTEXT)
    assert net.training
    assert net.norm.num_batches_tracked == 0


def write_boxes(root: Path, pattern: str = "*/*/*.png") -> None:
    paths = [p.relative_to(root).as_posix() for p in root.glob(pattern)]
    (root / "boxes.csv").write_text("path,x0,y0,x1,y1\n" + "".join(f"{path},3,3,30,30\n" for path in paths))


def test_data_without_boxes_or_split_is_refused_before_training(tmp_path: Path) -> None:
    recipe = replace(recipe_of("experiment=smoke"), evaluators={"localisation": Localisation()})
    root, here = tree(tmp_path), DeviceContext(torch.device("cpu"))
    write_boxes(root)
    without = images(root)(here)
    with pytest.raises(ConfigError, match=r"threshold_split: found minival; the data has .*data\.minival=N"):
        build_evaluators(recipe, without)
    assert build_evaluators(recipe, images(root, minival=6)(here))
    for pattern, key, split in (("val/*/*.png", "threshold_split", "minival"), ("train/*/*.png", "split", "val")):
        write_boxes(root, pattern)
        told = rf"evaluators\.localisation\.{key}: found {split}; its images have no boxes; .*boxes\.csv"
        with pytest.raises(ConfigError, match=told):
            build_evaluators(recipe, images(root, minival=6)(here))


def test_batches_without_boxes_are_refused() -> None:
    def plain(size: int) -> list[Batch]:
        return [replace(batch, also={}) for batch in batches_of(torch.arange(4))(size)]

    with pytest.raises(ConfigError, match=r"threshold_split: found minival; its images have no boxes"):
        Localisation()(Method(TABLE), {"minival": plain, "val": plain}, CONTEXT)


def test_the_shipped_config_has_the_defaults() -> None:
    recipe = recipe_of("experiment=smoke", "evaluators=[accuracy,localisation]")
    assert to_config(recipe.evaluators["localisation"]) == to_config(Localisation())
    assert recipe.id == recipe_of("experiment=smoke", "evaluators=[accuracy]").id
