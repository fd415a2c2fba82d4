"""Retrieval against accounts by loops, with ties, queries of many matches, and what is refused."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from helpers.trainings import workbench
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.evaluation import make_context
from paribus.core.streams import stream
from paribus.core.sums import Sums, gather_samples
from paribus.engine.evaluate import check_method, evaluate
from paribus.evaluators.accuracy import Accuracy
from paribus.evaluators.retrieval import (
    Retrieval,
    correlate_ranks,
    find_first_of_equal_rows,
    find_true_pairs,
    measure_split,
    rank_matches,
)
from paribus.recipe.build import build_evaluators
from paribus.recipe.smoke import build_small

SMALL = ("experiment=smoke_captions", "data.val_n=60")


def ranks_by_loop(scores: np.ndarray, relevant: np.ndarray) -> list[float]:
    """R@1, R-precision, mAP@R; of equal scores the lower place comes first."""
    rows = []
    for score, true in zip(scores.tolist(), relevant.tolist(), strict=True):
        order = sorted(range(len(score)), key=lambda k: (-score[k], k))
        r = sum(true)
        if not r:
            continue
        hits, precisions = 0, 0.0
        for place, k in enumerate(order[:r], 1):
            if true[k]:
                hits += 1
                precisions += hits / place
        rows.append((float(true[order[0]]), hits / r, precisions / r))
    return np.array(rows).mean(0).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_the_loop_ties_and_queries_without_a_match_too(seed: int) -> None:
    g = stream(seed, "ranks")
    scores = torch.randint(0, 6, (40, 15), generator=g).double()  # many ties
    relevant = torch.rand(40, 15, generator=g) < 0.2
    relevant[3] = False
    expected = ranks_by_loop(scores.numpy(), relevant.numpy())
    assert rank_matches(scores, relevant).tolist() == pytest.approx(expected, rel=1e-12)
    assert rank_matches(-scores, relevant).tolist() != pytest.approx(expected, rel=1e-3), "negative control"


def test_a_perfect_ranking_has_one_and_the_reverse_has_less() -> None:
    relevant = torch.rand(30, 20, generator=stream(0, "r")) < 0.3
    relevant[:, 0] = True
    assert rank_matches(relevant.double(), relevant).tolist() == [1, 1, 1]
    assert max(rank_matches(-relevant.double(), relevant).tolist()) < 0.5


def test_a_caption_is_true_if_its_descriptions_hold_of_different_objects() -> None:
    objects = torch.tensor([[[0, 1], [2, 1]], [[0, 1], [0, 3]]])  # (image, object, attribute)
    said = torch.tensor(
        [
            [[0, -1], [-1, -1]],  # one has 0: both images
            [[2, 1], [0, -1]],  # named in the other order: the first
            [[-1, 1], [-1, 1]],  # two have 1: the first alone; one object of the second is not enough
            [[0, 3], [0, 1]],  # the second
            [[2, 3], [-1, -1]],  # nowhere: each attribute is there, but in no one object
        ]
    )
    expected = [[True, True], [True, False], [True, False], [False, True], [False, False]]
    assert find_true_pairs(objects, said).T.tolist() == expected


def test_true_pairs_are_those_of_the_loop() -> None:
    data, _, _ = workbench(build_small(SMALL))
    batch = next(iter(data.splits["val"](100)))
    objects, said = batch.also["objects"], batch.also["described"]
    found = find_true_pairs(objects, said)
    assert bool(found.diagonal().all()), "a caption is true of its own image"

    def fits(one: list[int], thing: list[int]) -> bool:
        return all(a in (-1, b) for a, b in zip(one, thing, strict=True))

    for i, (left, right) in enumerate(objects.tolist()):
        for k, (first, second) in enumerate(said.tolist()):
            true = any(fits(first, a) and fits(second, b) for a, b in ((left, right), (right, left)))
            assert bool(found[i, k]) == true
    assert 0.02 < float(found.double().mean()) < 0.5


def test_equal_captions_count_once_at_their_first_place() -> None:
    rows = torch.tensor([[5, 1], [2, 2], [5, 1], [0, 9], [2, 2], [5, 1]])
    assert find_first_of_equal_rows(rows).tolist() == [0, 1, 3]


def test_spearmans_correlation_is_scipys() -> None:
    g = stream(0, "spearman")
    a, b = torch.randn(50, generator=g), torch.randint(0, 5, (50,), generator=g)
    expected = float(stats.spearmanr(a.numpy(), b.numpy()).statistic)  # type: ignore[union-attr]
    assert correlate_ranks(a, b) == pytest.approx(expected, rel=1e-6)
    assert correlate_ranks(a, torch.ones(50)) is None


def gathered(texts: Tensor, images: Tensor, facts: dict[str, Tensor], **more: Tensor) -> Sums:
    values = {"images": images, "texts": texts, **facts, **more}
    sums = Sums()
    for name, value in values.items():
        sums += gather_samples(f"val/{name}", torch.arange(len(value)), value)
    return sums.all_reduce(lambda value: value)


def test_embeddings_that_know_the_truth_beat_those_that_do_not() -> None:
    data, _, _ = workbench(build_small(SMALL))
    also = dict(next(iter(data.splits["val"](100))).also)
    true = find_true_pairs(also["objects"], also["described"]).double()
    width, eye = true.sum(0), torch.eye(len(true), dtype=torch.float64)
    knows = measure_split(gathered(eye, true, also, sigma=width.log()), "val")
    assert knows["text_to_image_r_precision"] == knows["image_to_text_r1"] == knows["r_precision"] == 1
    assert knows["sigma_ambiguity"] == pytest.approx(1)
    blind = measure_split(
        gathered(eye, torch.rand(len(true), len(true), generator=stream(0, "b")).double(), also), "val"
    )
    assert blind["r_precision"] < 0.5
    assert "sigma_ambiguity" not in blind
    with pytest.raises(RunFailed, match="NaN"):
        measure_split(gathered(eye * float("nan"), true, also), "val")


@pytest.mark.parametrize("techniques", [(), ("pcme",)])
def test_metrics_are_those_declared_and_do_not_depend_on_the_batch_size(techniques: tuple[str, ...]) -> None:
    recipe = build_small((*SMALL, "update.precision=fp64"), techniques)
    data, method, place = workbench(recipe)
    context = make_context(data, place)
    found = [evaluate(method, {"r": Retrieval(batch_size=n)}, data.splits, context).metrics for n in (7, 512)]
    assert found[0] == found[1]
    absent = set() if techniques else {"val/sigma_ambiguity"}
    assert set(found[0]) == set(Retrieval().keys) - absent


def test_other_data_and_other_networks_are_refused_in_one_line() -> None:
    recipe = build_small(("experiment=smoke", "evaluators=[retrieval]"))
    data, method, place = workbench(build_small(("experiment=smoke",)))
    with pytest.raises(ConfigError, match=r"evaluators\.retrieval\.splits: found val.*tokens.*shape_captions"):
        build_evaluators(recipe, data)
    context = make_context(data, place)
    with pytest.raises(ConfigError, match="model=two_encoders"):
        check_method(method, {"retrieval": Retrieval()}, context)
    captions, two, _ = workbench(build_small(SMALL))
    with pytest.raises(ConfigError, match=r"evaluators\.accuracy.*retrieval"):
        check_method(two, {"accuracy": Accuracy()}, make_context(captions, place))
