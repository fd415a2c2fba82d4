"""Accuracy: as a loop would count, at any batch size."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.evaluations import plain_context
from paribus.core.batch import Batch
from paribus.core.streams import stream
from paribus.engine.evaluate import evaluate
from paribus.evaluators.accuracy import Accuracy


class Fixed:
    """A method that predicts numbers made for each sample id, ties and NaN among them."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits

    def train_step(self, batch, at):
        return {}

    def prepare_eval(self) -> None: ...

    def predict(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.logits[inputs[:, 0, 0, 0].long()]

    def state_dict(self):
        return {}

    def load_state_dict(self, state) -> None: ...


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 60), classes=st.integers(2, 9), size=st.integers(1, 64), seed=st.integers(0, 99))
def test_accuracy_counts_like_a_loop_at_any_batch_size(n: int, classes: int, size: int, seed: int) -> None:
    g = stream(seed, "accuracy")
    logits = torch.randint(0, 4, (n, classes), generator=g).double()  # many ties
    logits[torch.rand(n, classes, generator=g) < 0.05] = float("nan")
    targets = torch.randint(0, classes, (n,), generator=g)

    def batches(batch_size: int):
        for ids in torch.arange(n).split(batch_size):
            yield Batch(ids[:, None, None, None].float(), targets[ids], ids, ids, len(ids), classes)

    got = evaluate(
        Fixed(logits), {"accuracy": Accuracy(batch_size=size)}, {"val": batches}, plain_context(classes)
    ).metrics
    hits = {1: 0, 5: 0}
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        own = row[target]
        ahead = sum(not (x <= own) or (x == own and k < target) for k, x in enumerate(row) if k != target)
        for k in hits:
            hits[k] += own == own and ahead < k
    assert got["val/acc1"] == hits[1] / n
    assert got.get("val/acc5", hits[5] / n) == hits[5] / n
    assert ("val/acc5" in got) == (classes > 5)
    if not logits.isnan().any():
        assert got["val/loss"] == pytest.approx(float(F.cross_entropy(logits, targets)), rel=1e-12)
