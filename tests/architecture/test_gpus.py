"""A test that needs no GPU sees none, on whatever machine; `-m cuda` shows them to those that do."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.gpus import no_waits, selects_only_gpu_tests

ONLY = [
    "cuda",
    "cuda and not slow",
    "not slow and cuda",
    "cuda and (slow or timing)",
    "cuda and cuda",
    "not (not cuda)",
]
NOT_ONLY = [
    *("", "slow", "not slow", "not slow and not timing", "timing", "not cuda", "slow or cuda", "cuda or not slow"),
    *("cud", "cudas", "cuda and ("),
]


@pytest.mark.parametrize("markers", ONLY)
def test_gpus_are_shown_where_every_chosen_test_needs_one(markers: str) -> None:
    assert selects_only_gpu_tests(markers)


@pytest.mark.parametrize("markers", NOT_ONLY)
def test_gpus_are_hidden_where_an_ordinary_test_is_chosen(markers: str) -> None:
    assert not selects_only_gpu_tests(markers)


def test_this_test_and_its_child_processes_see_no_gpu() -> None:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not torch.cuda.is_available()


def test_torch_comes_after_the_decision() -> None:
    """It counts the GPUs once, and a module at the top of the conftest would be imported before."""
    for name in ("conftest.py", "helpers/gpus.py"):
        text = (Path(__file__).parents[1] / name).read_text()
        assert not [
            line for line in text.splitlines() if line.startswith(("import torch", "from torch", "from paribus"))
        ]


@pytest.mark.parametrize("body", [lambda: None, lambda: 1 / 0], ids=["right", "wrong"])
def test_a_step_that_must_not_wait_leaves_nothing_switched_on(monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    """torch warns when the mode is first set, and here a warning is an error."""
    modes: list[str] = ["default"]

    def set_mode(mode: str) -> None:
        modes.append(mode)
        if mode != "default":
            warnings.warn("Synchronization debug mode is a prototype feature", UserWarning, stacklevel=2)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    try:
        with no_waits():
            assert modes[-1] == "error"
            body()
    except ZeroDivisionError:
        pass
    assert modes == ["default", "error", "default"]
