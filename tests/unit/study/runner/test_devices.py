"""GPUs, shared out to cells."""

from types import SimpleNamespace
from typing import Any

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


VISIBLE = {
    "0,3": ["0", "3"],
    " 0 , 3 ": ["0", "3"],
    "": [],
    " ": [],
    "-1": [],
    "0,-1,1": ["0"],
    "2,1,-1": ["2", "1"],
    "-1,0": [],
    "0,,1": ["0"],
    "0,x,1": ["0"],
    "none": [],
    "NoDevFiles": [],
    "0,1,0": [],
    "1gpu,2": ["1", "2"],
    "GPU-a, GPU-b": ["GPU-a", "GPU-b"],
    "GPU-a,GPU-a": [],
    "GPU-a,1,GPU-b": ["GPU-a"],
    "0,GPU-a": ["0"],
    "MIG-8a,MIG-9b": ["MIG-8a", "MIG-9b"],
    "MIG-8a,-1,MIG-9b": ["MIG-8a"],
    "MIG-8a,GPU-a": ["MIG-8a"],
    "MIG-GPU-8a/1/0,MIG-GPU-8a/2/0": ["MIG-GPU-8a/1/0", "MIG-GPU-8a/2/0"],
}


@pytest.mark.parametrize("text", VISIBLE)
def test_gpus_by_the_environment(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert devices.list_gpus() == VISIBLE[text]


@pytest.mark.parametrize("text", [text for text in VISIBLE if "-" not in text.replace("-1", "") and "x" not in text])
def test_numbers_are_read_as_torch_reads_them(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    import torch.cuda

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert devices.parse_visible(text) == [str(i) for i in torch.cuda._parse_visible_devices()]  # pyright: ignore


ONE = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f)\n"
SLICED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.5gb+me   Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-1d89852c-d268-c3f3-1b07-005d5ae1dc3f)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-2d89852c-d268-c3f3-1b07-005d5ae1dc3f)
  MIG 7g.40gb Device 0: (UUID: MIG-GPU-2d89852c-d268-c3f3-1b07-005d5ae1dc3f/0/0)
"""
LISTED = {
    "": [],
    "No devices found.\n": [],
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n": [],
    ONE: ["0"],
    ONE + ONE.replace("GPU 0", "GPU 1"): ["0", "1"],
    SLICED: [
        *("MIG-c7384736-a75d-5afc-978f-d2f1294409fd", "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d", "1"),
        "MIG-GPU-2d89852c-d268-c3f3-1b07-005d5ae1dc3f/0/0",
    ],
}


@pytest.mark.parametrize("text", LISTED, ids=["nothing", "none", "no driver", "one", "two", "sliced"])
def test_gpus_by_nvidia_smi(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def answer(command: list[str], **_: Any) -> Any:
        assert command == ["nvidia-smi", "-L"]
        return SimpleNamespace(returncode=0, stdout=text, stderr="")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("paribus.study.runner.devices.subprocess.run", answer)
    found = devices.list_gpus()
    assert found == LISTED[text]
    for name in found:  # each alone is what a cell gets
        assert devices.parse_visible(name) == [name]


def test_a_sliced_gpu_runs_a_cell_a_slice() -> None:
    names, running = devices.parse_listed(SLICED), list[str]()
    while (name := devices.pick_free_gpu(names, 1, running)) is not None:
        running.append(name)
    assert running == names
    assert len(running) == 4
