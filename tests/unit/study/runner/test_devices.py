"""GPUs, shared out to cells."""

import pytest

from paribus.study.runner import devices


def test_gpus_are_shared_out() -> None:
    assert devices.pick_free_gpu(["0", "1"], 1, []) == "0"
    assert devices.pick_free_gpu(["0", "1"], 1, ["0"]) == "1"
    assert devices.pick_free_gpu(["0", "1"], 1, ["0", "1"]) is None
    assert devices.pick_free_gpu(["0", "1"], 2, ["0", "1", "1"]) == "0"
    assert devices.pick_free_gpu(["0", "1"], 2, ["0", "1"]) == "0"
    assert devices.pick_free_gpu(["GPU-a"], 1, ["GPU-b", ""]) == "GPU-a"
    assert devices.pick_free_gpu([], 1, []) is None


def test_gpus_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, names in {"0,3": ["0", "3"], "": [], "-1": [], "GPU-a, GPU-b": ["GPU-a", "GPU-b"]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        assert devices.list_gpus() == names
