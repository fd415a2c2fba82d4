"""The Triton kernels of colour and affine operations, without a GPU: Triton's interpreter runs them on CPU tensors and
their images are Pillow's to the bit; compiled for a GPU that is not here, they round where Pillow does.

TRITON_INTERPRET is read when a kernel is defined, so the checks run in other processes."""

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from helpers.pillow_operations import count_differing
from paribus.data.ops import fused, native
from paribus.data.ops.native import OPERATION_CODES

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
PROGRAMS = [[name] for name in OPERATION_CODES]
TWO_TURNS = [["equalize", "affine"], ["affine", "sharpness"], ["contrast", "contrast"], ["none", "autocontrast"]]

COMPARE = """
import importlib.util, json, sys
import torch

torch.set_num_threads(1)
from helpers.pillow_operations import count_differing

def load(source):
    name = "paribus.data.ops.color_triton"
    spec = importlib.util.spec_from_file_location(name, source) if source else importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.apply_operations

for source, *arguments in json.loads(sys.argv[1]):
    print(count_differing(load(source), *arguments))
"""

COMPILE = """
import re, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from paribus.data.ops import color_triton

kinds = {"images": "*u8", "out": "*u8", "codes": "*i32", "arguments": "*fp64", "counts": "*i64", "tables": "*u8"}

def compiled(kernel, **constants):
    kind = {n: "constexpr" if n in constants else kinds.get(n, "i32") for n in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=kind, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=color_triton.OPTIONS).asm["ptx"]

size = {"CHANNELS": 3, "BLOCK": color_triton._BLOCK}
made = compiled(color_triton._count, **size) + compiled(color_triton._build_tables, CHANNELS=3)
made += compiled(color_triton._change, BICUBIC=True, **size)
print(len(re.findall(r"fma\\.[a-z.]*f(?:32|64)", made)))  # a product and a sum rounded once
print(len(re.findall(r"div\\.(?:full|approx)", made)))
print(len(re.findall(r"div\\.rn\\.f(?:32|64)", made)))
"""


def told(code: str, folder: Path, *arguments: str, **environment: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [int(line) for line in done.stdout.split()]


# (a name, what stands there, what is put there, the operation that must notice)
MUTANTS = [
    ("grey is cut off", "+ 0x8000) >> 16", ") >> 16", ["saturation"]),
    ("the mean is cut off", "(2 * total + pixels) // (2 * pixels)", "total // pixels", ["contrast"]),
    ("smooth is cut off", "(2 * total + 13) // 26", "total // 13", ["sharpness"]),
    ("ranks are cut off", "(step // 2 + before) // step", "before // step", ["equalize"]),
    ("a scale of 256", "tl.full((), 255.0, tl.float64) /", "tl.full((), 256.0, tl.float64) /", ["autocontrast"]),
    ("hue is cut off", "tl.float64) + 0.5)", "tl.float64))", ["hue"]),
    ("half a pixel", "at_x -= 0.5", "at_x -= 0.4", ["affine"]),
    ("one turn reads the first image", "            images = out\n", "", ["invert", "brightness"]),
]


@needs_triton
def test_interpreted_kernels_are_pillows_to_the_bit_and_mutants_are_not(tmp_path: Path) -> None:
    home = Path(native.__file__).with_name("color_triton.py").read_text()
    right = [
        ["", PROGRAMS, 3, True],
        ["", [["affine"]], 3, False],
        ["", PROGRAMS, 1, True],
        ["", TWO_TURNS, 3, False],
    ]
    wrong = []
    for i, (_, old, new, program) in enumerate(MUTANTS):
        assert home.count(old) == 1
        (tmp_path / f"mutant_{i}.py").write_text(home.replace(old, new))
        wrong.append([str(tmp_path / f"mutant_{i}.py"), [program], 3, True])
    counts = told(COMPARE, tmp_path, json.dumps(right + wrong), TRITON_INTERPRET="1")
    assert counts[: len(right)] == [0] * len(right)
    assert dict(zip((name for name, *_ in MUTANTS), counts[len(right) :], strict=True)) == {
        name: pytest.approx(2, abs=1) for name, *_ in MUTANTS
    }


@needs_triton
def test_compiled_kernels_round_every_product_sum_and_quotient(tmp_path: Path) -> None:
    fused_products, loose_quotients, quotients = told(COMPILE, tmp_path, TRITON_CACHE_DIR=str(tmp_path / "cache"))
    assert (fused_products, loose_quotients) == (0, 0)
    assert quotients > 10


@pytest.mark.skipif(native.load_kernels() is None, reason="no C compiler")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bicubic", [False, True])
def test_the_c_kernel_is_pillows_to_the_bit(channels: int, bicubic: bool) -> None:
    assert count_differing(native.apply_operations, PROGRAMS, channels, bicubic) == 0
    assert count_differing(native.apply_operations, TWO_TURNS, channels, bicubic) == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bicubic", [False, True])
def test_on_a_gpu_the_kernels_are_pillows_to_the_bit(channels: int, bicubic: bool) -> None:
    from paribus.data.ops.color_triton import apply_operations

    def on_gpu(images, *arguments):
        return apply_operations(images.cuda(), *arguments).cpu()

    assert count_differing(on_gpu, PROGRAMS, channels, bicubic) == 0
    assert count_differing(on_gpu, TWO_TURNS, channels, bicubic) == 0


@needs_triton
def test_without_a_driver_one_warning_and_tensor_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    import paribus.data.ops.color_triton  # noqa: F401  Triton itself asks for modules and makes tensors when imported

    real_zeros = torch.zeros

    def zeros(*size, device=None, **options):  # stands for a device on which Triton finds no compiler
        if device is not None:
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")
        return real_zeros(*size, **options)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch, "zeros", zeros)
    fused._load_triton_kernel.cache_clear()
    try:
        with pytest.warns(UserWarning, match="fastest with Triton, .* Failed to find C compiler. Please"):
            assert fused._load_triton_kernel(torch.device("cuda:0")) is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert fused._load_triton_kernel(torch.device("cuda:0")) is None
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert fused._load_triton_kernel(torch.device("cuda:1")) is None
    finally:
        fused._load_triton_kernel.cache_clear()
