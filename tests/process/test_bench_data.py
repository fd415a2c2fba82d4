"""The bench of training input: workers of other libraries end with their session."""

import multiprocessing
from typing import Any

import pytest
import torch

from paribus.bench.data import checks
from paribus.bench.data.cases import EXACT, check_windows, prepare_feed
from paribus.bench.data.pipelines import InputTask, TimmLoader, TorchvisionLoader

PADDED = InputTask("pad", 32, 32, torch.device("cpu"))


@pytest.mark.parametrize("feed", [TorchvisionLoader("v1", 2), TimmLoader(2)], ids=["torchvision", "timm"])
def test_workers_deliver_the_same_and_end_with_their_session(feed: Any) -> None:
    assert check_windows(feed, PADDED) < EXACT
    ready = prepare_feed(feed, PADDED, checks.make_noise_images(32), check_windows, prefetched=4)
    assert ready.min_calls > 4
    with ready.session():
        ready.call()
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []
