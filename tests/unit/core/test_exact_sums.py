"""Exact means: one copy to the host for all metrics, and the same numbers as dividing each by itself."""

import pytest
import torch
from torch import Tensor

from paribus.core.sums import Sums, metric_sums


def test_means_divide_each_metric_exactly_whatever_its_type() -> None:
    totals = {
        "int": torch.tensor(2**53 + 1),
        "double": torch.tensor(1 / 3, dtype=torch.float64),
        "float": torch.tensor(0.1),
        "negative": torch.tensor(-7),
        "nan": torch.tensor(float("nan")),
    }
    sums = Sums()
    for name, total in totals.items():
        sums = sums + metric_sums(name, total, 3)
    found = sums.means()
    assert list(found) == list(totals)
    assert {k: repr(v) for k, v in found.items()} == {k: repr(float(v.item() / 3)) for k, v in totals.items()}
    assert Sums().means() == {}


def test_all_metrics_travel_in_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = list[Tensor]()
    copy = Tensor.cpu

    def cpu(self: Tensor, *rest: object) -> Tensor:
        copies.append(self)
        return copy(self)

    monkeypatch.setattr(Tensor, "cpu", cpu)
    sums = metric_sums("acc1", torch.tensor(5), 10) + metric_sums("loss", torch.tensor(2.5, dtype=torch.float64), 10)
    assert sums.means() == {"acc1": 0.5, "loss": 0.25}
    assert len(copies) == 1
