"""Differences of equalised odds: as counted one sample after the other, at any batch size and over any processes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from helpers.evaluations import LogitTable, plain_context, table_split, total_over_ranks
from paribus.core.batch import Batch
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.protocols import DeviceContext
from paribus.core.streams import stream
from paribus.data.synthetic import Synthetic
from paribus.engine.evaluate import evaluate
from paribus.evaluators.groups import Groups, compare_groups, count_right

N, CLASSES, GROUPS = 230, 4, 3
G = stream(0, "groups")
TARGETS = torch.randint(0, CLASSES, (N,), generator=G)
FACTS = torch.randint(-1, GROUPS, (N,), generator=G)  # -1: nobody has annotated it
FACTS[(TARGETS == 1) & (FACTS == 2)] = 0  # an empty cell
FACTS[TARGETS == 3] = 1  # a class of one group
LOGITS = torch.randint(0, 4, (N, CLASSES), generator=G).float()
LOGITS[torch.arange(N), TARGETS] += 1.5 * (FACTS + 1)
CONTEXT = plain_context(CLASSES)


def split(rank: int = 0, world: int = 1) -> Callable[..., Any]:
    plain = table_split(torch.arange(N), TARGETS, CLASSES, rank, world)

    def batches(size: int) -> Iterator[Batch]:
        return (replace(batch, also={"group": FACTS[batch.ids]}) for batch in plain(size))

    return batches


def found(size: int = 64, world: int = 1) -> tuple[dict[str, float], dict[str, Any]]:
    evaluator = Groups(batch_size=size)
    shares = [{"val": split(rank, world)} for rank in range(world)]
    sums = total_over_ranks(evaluator, LogitTable(LOGITS), shares, CONTEXT)
    return evaluator.derived(sums, CONTEXT), evaluator.details(sums, CONTEXT)


def expected() -> dict[str, float]:
    hits: dict[tuple[int, int], list[int]] = {}
    for i in range(N):
        if int(FACTS[i]) >= 0:
            hits.setdefault((int(TARGETS[i]), int(FACTS[i])), []).append(int(LOGITS[i].argmax() == TARGETS[i]))
    rates = {cell: sum(h) / len(h) for cell, h in hits.items()}
    gaps = []
    for y in range(CLASSES):
        here = [rate for (label, _), rate in rates.items() if label == y]
        gaps += [max(here) - min(here)] if len(here) > 1 else []
    by_group = [[h for (_, group), cell in hits.items() if group == k for h in cell] for k in range(GROUPS)]
    return {
        "val/deo_max": max(gaps),
        "val/deo_mean": sum(gaps) / len(gaps),
        "val/worst_group_acc": min(sum(h) / len(h) for h in by_group),
        "val/worst_cell_acc": min(rates.values()),
    }


def test_as_counted_one_by_one() -> None:
    metrics, details = found()
    assert metrics == pytest.approx(expected(), abs=1e-12)
    assert set(metrics) == set(Groups().keys)
    accuracy, samples = (details[f"val/{name}_of_groups"]["matrix"] for name in ("accuracy", "samples"))
    assert accuracy["labels"] == list("0123")
    assert sum(map(sum, samples["rows"])) == int((FACTS >= 0).sum())
    assert samples["rows"][2][1] == 0
    assert accuracy["rows"][2][1] is None, "an empty cell has no accuracy"
    assert len(accuracy["rows"]) == GROUPS


def test_negative_control_samples_of_unknown_group_counted_as_a_group_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = expected()
    monkeypatch.setattr(f"{__name__}.FACTS", FACTS.clamp(min=0))
    assert found()[0] != pytest.approx(right, abs=1e-3)


@pytest.mark.parametrize(("size", "world"), [(1, 1), (7, 2), (64, 4)])
def test_equal_to_the_bit_at_any_batch_size_and_over_any_processes(size: int, world: int) -> None:
    assert found(size, world) == found(400)


def test_what_has_no_value_is_left_out() -> None:
    nobody = torch.tensor([[0, -1, 1], [1, -1, 0]])
    assert compare_groups(*count_right(nobody, 2)) == {}
    one_group = torch.tensor([[0, 0, 1], [0, 0, 0], [1, 0, 1]])
    assert compare_groups(*count_right(one_group, 2)) == {
        "worst_group_acc": pytest.approx(2 / 3),
        "worst_cell_acc": 0.5,
    }
    two = torch.tensor([[0, 0, 1], [0, 1, 0], [1, 1, 1]])
    assert compare_groups(*count_right(two, 2))["deo_max"] == 1.0


def test_scores_that_are_nan_are_told() -> None:
    with pytest.raises(RunFailed, match="NaN for 64 images"):
        Groups(batch_size=64)(LogitTable(LOGITS * torch.nan), {"val": split()}, CONTEXT)


def test_a_split_without_groups_is_refused() -> None:
    place = DeviceContext(torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"evaluators.groups.splits: found val, whose samples have no group"):
        Groups().check_data(Synthetic(n=40, val_n=20)(place))
    data = Synthetic(n=40, val_n=20, groups=2, annotated=0.5)(place)
    Groups().check_data(data)
    table = LogitTable(torch.rand(300, 10))
    pixels = {"val": lambda size: (replace(b, inputs=b.ids[:, None, None, None]) for b in data.splits["val"](size))}
    findings = evaluate(table, {"groups": Groups()}, pixels, plain_context(10))  # type: ignore[arg-type]
    assert set(findings.metrics) == set(Groups().keys)
