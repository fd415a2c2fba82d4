"""Class weights and the two objectives: their formulas, what they are checked for, and whole runs with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from helpers.image_trees import images, tree
from helpers.trainings import recipe_of, trained
from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import DeviceContext
from paribus.core.streams import stream
from paribus.methods.objectives import BinaryCrossEntropy, CrossEntropy, balanced_weights, cross_entropy
from paribus.recipe.recipe import rebuild_recipe

N, K = 24, 5
LOGITS = torch.randn(N, K, generator=stream(0, "test.objectives"))
IDS = torch.randint(0, K, (N,), generator=stream(0, "test.objectives.ids"))
WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_are_torchs_with_the_mean_over_images(smoothing: float) -> None:
    ours = cross_entropy(LOGITS, IDS, smoothing, WEIGHTS)
    each = F.cross_entropy(LOGITS, IDS, WEIGHTS, label_smoothing=smoothing, reduction="none")
    assert torch.equal(ours, each.mean())
    one_hot = F.one_hot(IDS, K).float()
    soft = cross_entropy(LOGITS, one_hot, smoothing, WEIGHTS)
    torch.testing.assert_close(ours, soft)  # of class ids and the same as soft targets
    torch.testing.assert_close(soft, F.cross_entropy(LOGITS, one_hot, WEIGHTS, label_smoothing=smoothing))
    parts = [cross_entropy(LOGITS[k : k + 6], IDS[k : k + 6], smoothing, WEIGHTS) for k in range(0, N, 6)]
    torch.testing.assert_close(torch.stack(parts).mean(), ours)  # as accumulation and several processes average
    by_weight = F.cross_entropy(LOGITS, IDS, WEIGHTS, label_smoothing=smoothing)  # torch's mean of class ids
    assert not torch.allclose(by_weight, ours)
    assert torch.equal(cross_entropy(LOGITS, IDS, smoothing), F.cross_entropy(LOGITS, IDS, label_smoothing=smoothing))


def test_balanced_is_scikit_learns() -> None:
    labels = torch.tensor([0] * 50 + [1] * 7 + [2] * 3).numpy()
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights([50, 7, 3]) == pytest.approx(theirs.tolist(), rel=1e-12)
    assert sum(n * w for n, w in zip([50, 7, 3], balanced_weights([50, 7, 3]), strict=True)) == pytest.approx(60)


class Fixed(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return LOGITS


def value(objective, targets: Tensor = IDS) -> Tensor:
    places = torch.arange(N)
    return objective(Fixed(), Batch(LOGITS, targets, places, places, N, K), Progress(0, 1, 0, 1))[0]


def uneven(tmp_path: Path, **settings):
    """6 + 2 training images."""
    root = tree(tmp_path, classes=2, train=6, val=1)
    for path in sorted((root / "train" / "class_1").iterdir())[2:]:
        path.unlink()
    return images(root, **settings)(DeviceContext(torch.device("cpu")))


def test_balanced_weights_are_of_the_images_that_are_trained_on(tmp_path: Path) -> None:
    place = DeviceContext(torch.device("cpu"))
    data = uneven(tmp_path)
    assert data.class_counts == (6, 2)
    for objective in (CrossEntropy(class_weights="balanced"), BinaryCrossEntropy(class_weights="balanced")):
        made = objective.for_data(data, place)
        assert made.weights.tolist() == pytest.approx([8 / 12, 8 / 4])  # type: ignore[attr-defined]
        listed = replace(objective, class_weights=(8 / 12, 8 / 4)).for_data(data, place)
        assert torch.equal(made.weights, listed.weights)  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="class_weights: for_data"):
            value(objective)
    plain = CrossEntropy()
    assert plain.for_data(data, place) is plain
    assert replace(data, class_counts=()).class_counts == ()
    with pytest.raises(ConfigError, match=r"^objective.class_weights: found balanced; this data set does not say how"):
        CrossEntropy(class_weights="balanced").for_data(replace(data, class_counts=()), place)
    with pytest.raises(ConfigError, match=r"found balanced; the class class_1 has no training image and so no weight"):
        CrossEntropy(class_weights="balanced").for_data(replace(data, class_counts=(8, 0)), place)
    with pytest.raises(ConfigError, match=r"found 3 numbers; the data has 2 classes, in this order: class_0, class_1$"):
        BinaryCrossEntropy(class_weights=(1.0, 1.0, 2.0)).for_data(data, place)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 2.0), "even", (float("inf"), 1.0)])
def test_what_is_no_list_of_weights_is_refused(weights) -> None:
    with pytest.raises(ValueError, match="class_weights"):
        CrossEntropy(class_weights=weights)


def test_counts_leave_out_what_is_held_out(tmp_path: Path) -> None:
    assert uneven(tmp_path, minival=2).class_counts == (5, 1)


@pytest.mark.parametrize(
    ("objective", "technique"), [("cross_entropy", ("cutmix",)), ("bce", ()), ("bce", ("cutmix",)), ("bce", ("mixup",))]
)
def test_runs_with_weights_train(tmp_path: Path, objective: str, technique: tuple[str, ...]) -> None:
    smoothed = (f"objective={objective}", "objective.smoothing=0.1")
    recipe = ("experiment=smoke", "steps=3ba", "data.n=64", "batch_size=16", "update.accumulate=2", *smoothed)
    done = trained(tmp_path, *recipe, "objective.class_weights=balanced", techniques=technique)
    assert done.code == 0
    plain = trained(tmp_path, *recipe, techniques=technique)
    assert done.receipt != plain.receipt  # 64 images of 10 classes: 7 or 6 each


def test_an_id_of_no_weights_has_none_and_of_bce_has_all() -> None:
    usual = recipe_of("experiment=smoke")
    assert set(usual.computed["objective"]) == {"_target_", "smoothing"}
    weighted = recipe_of("experiment=smoke", "objective.class_weights=balanced")
    assert weighted.computed["objective"]["class_weights"] == "balanced"
    assert recipe_of("experiment=smoke", "objective=bce").id not in (usual.id, weighted.id)


def test_an_objective_of_ones_own_need_not_know_the_weights() -> None:
    config = recipe_of("experiment=smoke").config
    mine = {"_target_": "helpers.own_objective.Flat", "smoothing": 0.0, "class_weights": None}
    made = rebuild_recipe({**config, "objective": mine, "packages": ["helpers"]})
    assert "class_weights" not in made.config["objective"]
    with pytest.raises(ConfigError, match=r"objective.class_weights: no such key"):
        rebuild_recipe({**config, "objective": {**mine, "class_weights": "balanced"}, "packages": ["helpers"]})
