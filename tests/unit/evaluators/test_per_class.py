"""Accuracy by class: as scikit-learn has it, at any batch size and over any number of processes."""

from typing import Any

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score

from helpers.evaluations import LogitTable, plain_context, table_split, total_over_ranks
from paribus.core.errors import RunFailed
from paribus.core.streams import stream
from paribus.engine.evaluate import evaluate
from paribus.evaluators.per_class import MOST_IN_MATRIX, PerClass

N, CLASSES, EMPTY = 230, 6, 4  # of class 4 there is no image
G = stream(0, "per_class")
TARGETS = torch.randint(0, CLASSES, (N,), generator=G)
TARGETS[TARGETS == EMPTY] = 0
LOGITS = torch.randint(0, 4, (N, CLASSES), generator=G).float()  # with ties
LOGITS[torch.arange(N), TARGETS] += torch.arange(N) % 3
CONTEXT = plain_context(CLASSES)


def found(size: int = 64, world: int = 1) -> tuple[dict[str, float], dict[str, Any]]:
    evaluator = PerClass(batch_size=size)
    shares = [{"val": table_split(torch.arange(N), TARGETS, CLASSES, rank, world)} for rank in range(world)]
    sums = total_over_ranks(evaluator, LogitTable(LOGITS), shares, CONTEXT)
    details = evaluator.details(sums, CONTEXT)
    accuracy, counts = (details[f"val/{name}"]["matrix"] for name in ("accuracy", "confusion"))
    assert accuracy["labels"] == counts["labels"]
    return evaluator.derived(sums, CONTEXT), {
        "classes": counts["labels"],
        "accuracy": accuracy["rows"][0],
        "counts": counts["rows"],
    }


def check(metrics: dict[str, float], details: dict[str, Any]) -> None:
    predicted, labels = LOGITS.argmax(1), [k for k in range(CLASSES) if k != EMPTY]
    recalls = recall_score(TARGETS, predicted, labels=labels, average=None)
    assert metrics["val/balanced_acc"] == pytest.approx(recalls.mean(), abs=1e-12)
    assert metrics["val/worst_class_acc"] == pytest.approx(recalls.min(), abs=1e-12)
    assert [share for share in details["accuracy"] if share is not None] == pytest.approx(list(recalls), abs=1e-12)
    assert details["accuracy"][EMPTY] is None
    assert details["counts"] == confusion_matrix(TARGETS, predicted, labels=range(CLASSES)).tolist()


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_as_scikit_learn_has_it() -> None:
    metrics, details = found()
    check(metrics, details)
    assert set(metrics) == set(PerClass().keys)
    oracle = balanced_accuracy_score(TARGETS, LOGITS.argmax(1))
    assert metrics["val/balanced_acc"] == pytest.approx(oracle, abs=1e-12)
    assert details["classes"] == list("012345")


def test_negative_control_a_class_without_images_counted_as_0_is_seen() -> None:
    metrics, details = found()
    shares = [share or 0.0 for share in details["accuracy"]]
    with pytest.raises(AssertionError):
        check({**metrics, "val/balanced_acc": sum(shares) / CLASSES}, details)
    with pytest.raises(AssertionError):
        check({**metrics, "val/worst_class_acc": min(shares)}, details)
    with pytest.raises(AssertionError):
        check(metrics, {**details, "counts": torch.tensor(details["counts"]).T.tolist()})


@pytest.mark.parametrize(("size", "world"), [(1, 1), (7, 1), (7, 2), (64, 2), (7, 4), (1, 4)])
def test_equal_to_the_bit_at_any_batch_size_and_over_any_processes(size: int, world: int) -> None:
    assert found(size, world) == found(400)


def test_scores_that_are_nan_are_told() -> None:
    splits = {"val": table_split(torch.arange(N), TARGETS, CLASSES)}
    with pytest.raises(RunFailed, match="NaN for 230 images"):
        evaluate(LogitTable(LOGITS * torch.nan), {"mine": PerClass()}, splits, CONTEXT)  # type: ignore[arg-type]


def test_a_matrix_of_many_classes_is_left_out() -> None:
    classes = MOST_IN_MATRIX + 1
    splits = {"val": table_split(torch.arange(9), torch.arange(9), classes)}
    table = LogitTable(torch.eye(classes))
    findings = evaluate(table, {"mine": PerClass()}, splits, plain_context(classes))  # type: ignore[arg-type]
    assert findings.metrics == {"val/balanced_acc": 1.0, "val/worst_class_acc": 1.0}
    assert set(findings.details["mine"]) == {"val/accuracy"}
