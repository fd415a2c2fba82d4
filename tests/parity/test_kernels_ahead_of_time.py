"""The Triton kernels compiled for GPUs that are not here: registers, spills, and the width of accesses to memory.

A multiprocessor has 65536 registers. At 80 registers a thread three programs of 8 warps run beside each other; above
128 it is one, and nothing is computed while it waits for memory.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.kernels_ahead import RULES
from paribus.techniques.adamp.kernels import dispatch

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

SOURCE = Path(dispatch.__file__).with_name("cuda.py")
# registers a thread and bytes of stack, which is what spills. The most that was seen, with a tenth on top for another
# compiler: 59 48 49, 40 40 40, 80 70 72, 48 44 48; stack 8 in one case
CEILINGS = {
    "_test_sums": {80: (66, 0), 90: (54, 0), 100: (54, 0)},
    "_decide": {80: (48, 0), 90: (48, 0), 100: (48, 0)},
    "_step": {80: (88, 16), 90: (80, 16), 100: (80, 16)},
    "_layer": {80: (56, 0), 90: (48, 0), 100: (54, 0)},
}


def compiled(folder: Path, target: int, *arguments: str) -> dict[str, list[int]]:
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            "from helpers import kernels_ahead as k; k.main()",
            str(target),
            *arguments,
        ],
        env={
            **{key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"},
            "PYTHONPATH": os.pathsep.join(sys.path),
            "OMP_NUM_THREADS": "1",
            "TRITON_CACHE_DIR": str(folder / "cache"),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def faults(found: dict[str, list[int]], target: int) -> list[str]:
    """What exceeds its ceiling, spills, or reads and writes in another width than its rows allow."""
    wrong = []
    for name, (registers, stack, vectors, fused) in found.items():
        most = CEILINGS[name.split()[0]][target]
        if registers > most[0] or stack > most[1]:
            wrong.append(f"{name}: {registers} registers, {stack} bytes of stack; allowed are {most[0]} and {most[1]}")
        if (vectors > 0) != ("aligned" in name):
            wrong.append(f"{name}: {vectors} accesses of 128 bits")
        if "_test_sums" in name and fused:
            wrong.append(f"{name}: sums are to be rounded as on a CPU, found {fused} fused multiply-adds")
    return wrong


def mutant(folder: Path, *changes: tuple[str, str]) -> str:
    text = SOURCE.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    broken = folder / "broken.py"
    broken.write_text(text)
    return str(broken)


def test_the_kernels_of_adamp_fit_an_h100(tmp_path: Path) -> None:
    found = compiled(tmp_path, 90, "plain", "40x100+6x999+6x1000+3x2000")
    assert len(found) == 3 + 1 + 4 + 3
    assert not faults(found, 90)


@pytest.mark.slow
@pytest.mark.parametrize("target", [80, 90, 100])
def test_every_kernel_fits_every_target(target: int, tmp_path: Path) -> None:
    found = compiled(tmp_path, target, "+".join(RULES))
    assert len(found) == 6 + 1 + 5 * (8 + 6)
    assert not faults(found, target)


@pytest.mark.slow
@pytest.mark.parametrize("target", [80, 90, 100])
def test_kernels_with_wide_offsets_compile_without_spills(target: int, tmp_path: Path) -> None:
    wide = mutant(tmp_path, ("_OFFSETS = 2**31", "_OFFSETS = 0"))
    found = compiled(tmp_path, target, "plain+sgdp-alias", "", wide)
    assert len(found) == 6 + 1 + 2 * (8 + 6)
    for name, (_, stack, vectors, _) in found.items():
        assert stack <= 16, name
        assert ("wide" in name) == (name != "_decide")
        assert (vectors > 0) == ("aligned" in name), name


def test_negative_control_worse_kernels_are_noticed(tmp_path: Path) -> None:
    more_a_thread = ('"num_warps": 8', '"num_warps": 2')
    no_hint = ("length, size = tl.multiple_of(length, 4), tl.multiple_of(size, 4)", "pass")
    found = compiled(tmp_path, 90, "plain", "6x1000", mutant(tmp_path, more_a_thread, no_hint))
    wrong = faults(found, 90)
    assert [name for name in found if not any(f"{name}: 0 accesses of 128 bits" in text for text in wrong)] == [
        "_decide"
    ]
    for kernel in ("_step 1024 aligned plain", "_test_sums 1024 aligned"):
        assert any(text.startswith(f"{kernel}: ") and "registers" in text for text in wrong), wrong


# What the host tells the kernels


def shape_of(shape: tuple[int, ...], *offsets: int) -> Any:
    """The class of a parameter of this shape, whose weight, gradient and states begin so many bytes after an aligned
    address."""
    from paribus.techniques.adamp.kernels import cuda
    from paribus.techniques.adamp.kernels.params import ParamTensors

    tensor = torch.empty(shape, device="meta")
    param = ParamTensors(tensor, tensor, tensor, (tensor, tensor), None, 0, len(shape) > 1, True)
    return cuda._shape(param, tuple(1 << 20 | offset for offset in (offsets or (0, 0, 0, 0))))


def test_rows_are_aligned_only_where_each_tensor_is() -> None:
    assert shape_of((6, 1000)).is_aligned
    assert shape_of((64, 3, 2, 2)).is_aligned
    assert shape_of((512,)).is_aligned
    assert shape_of((5000,)).is_aligned
    for shape in [(6, 999), (64, 3, 7, 7), (27,), (1025,), (5002,), ()]:
        assert not shape_of(shape).is_aligned, shape
    for place in range(4):
        for offset in (4, 8, 12, 16):
            offsets = [offset if i == place else 0 for i in range(4)]
            assert shape_of((6, 1000), *offsets).is_aligned == (offset == 16)


def test_offsets_are_wide_only_where_a_tensor_needs_them() -> None:
    reach = 2**31
    for shape in [(1, reach - 4096), (2**15, 2**16 - 1), (2**29 - 1024, 1), (reach // 2,)]:
        assert not shape_of(shape).is_wide, shape
    # the end of a tensor, of the last tile in a row, and of the sums, four a row
    for shape in [(2**15, 2**16), (1, reach - 1), (1, reach - 2048), (2**29, 1), (reach,), (2**33,)]:
        assert shape_of(shape).is_wide, shape


def test_parameters_of_every_class_have_their_own_programs() -> None:
    from paribus.techniques.adamp.kernels import cuda

    shapes = [shape_of((6, 1000)), shape_of((6, 999)), shape_of((6, 1000), 4, 0, 0, 0), shape_of((2**15, 2**16))]
    classes = cuda._plan(shapes, {}, torch.device("cpu"))["classes"]
    owners = {(tile["ALIGNED"], tile["WIDE"]): sorted(set(units[:, 0].tolist())) for tile, _, units, _ in classes}
    assert owners == {(True, False): [0], (False, False): [1, 2], (True, True): [3]}
