"""The bench of training input: workers of other libraries end with their session."""

import multiprocessing
from typing import Any

import pytest
import torch

from paribus.bench.data import checks
from paribus.bench.data.cases import EXACT, prepared, windows
from paribus.bench.data.pipelines import Task, Timm, Torchvision

PADDED = Task("pad", 32, 32, torch.device("cpu"))


@pytest.mark.parametrize("feed", [Torchvision("v1", 2), Timm(2)], ids=["torchvision", "timm"])
def test_workers_deliver_the_same_and_end_with_their_session(feed: Any) -> None:
    assert windows(feed, PADDED) < EXACT
    ready = prepared(feed, PADDED, checks.noise(32), windows, ahead=4)
    assert ready.fewest > 4
    with ready.session():
        ready.call()
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []
