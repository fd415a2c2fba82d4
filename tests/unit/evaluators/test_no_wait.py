"""The device is waited for once an evaluation, not in every batch: counted without one (helpers/launches.py)."""

import pytest
import torch
from torch import Tensor

from helpers.launches import META, Launches
from paribus.core.batch import Batch
from paribus.core.sums import metric_sums
from paribus.evaluators.accuracy import Accuracy
from paribus.evaluators.unmixed_loss import UnmixedLoss


class Zeros:
    """A method that predicts zeros on the device."""

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def train_step(self, batch, at):
        return {}

    def prepare_eval(self) -> None: ...

    def predict(self, inputs: Tensor) -> Tensor:
        return inputs.new_zeros(len(inputs), self.classes)

    def state_dict(self):
        return {}

    def load_state_dict(self, state) -> None: ...


@pytest.mark.parametrize("evaluator", [Accuracy(), UnmixedLoss()], ids=["accuracy", "unmixed loss"])
@pytest.mark.parametrize("classes", [2, 10])
def test_an_evaluator_waits_in_no_batch(evaluator: Accuracy | UnmixedLoss, classes: int) -> None:
    index = torch.zeros(8, dtype=torch.int64, device=META)
    batch = Batch(torch.zeros(8, 3, 4, 4, device=META), index, index, index, 8, classes)
    splits = {"val": lambda size: [batch] * 3, "train_sample": lambda size: [batch] * 3}
    with Launches() as counted:
        sums = evaluator(Zeros(classes), splits)
    assert counted.waits == []
    assert sums.counts
    assert all(value.is_meta and value.dtype == torch.int64 for value in sums.counts.values())


def test_a_count_is_made_where_its_total_is() -> None:
    made = metric_sums("loss", torch.tensor(6.0, dtype=torch.float64), 4)
    assert made.means() == {"loss": 1.5}
    assert made.counts["loss"].dtype == torch.int64
