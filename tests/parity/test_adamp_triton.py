"""The Triton kernels' arithmetic, without a GPU: Triton's interpreter runs them on CPU tensors, and they are compiled
for a GPU that is not here. TRITON_INTERPRET is read when a kernel is defined, so the checks run in other processes.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

COMPARE = """
import importlib.util, sys
import torch
from paribus.techniques.adamp.kernels import dispatch

torch.set_num_threads(1)
from helpers import steps_apart as w

choose = dispatch._choose_form
dispatch._choose_form = lambda leaf, group: choose(leaf, group) if group["foreach"] is False else "triton"

def load(source):
    name = "paribus.techniques.adamp.kernels.cuda"
    spec = importlib.util.spec_from_file_location(name, source) if source else importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[spec.name] = module
    import paribus.techniques.adamp.kernels as home
    home.cuda = module

shapes = [(6, 4, 3, 3), (20, 40), (40, 9), (1100,), (), (3, 1500), (0, 3)]
cases = [
    (w.adamp, {}), (w.adamp, {"nesterov": True, "lr": torch.tensor(0.02)}), (w.sgdp, {}),
    (w.sgdp, {"nesterov": True}), (w.sgdp, {"alias_momentum": True}),
]
for argument in sys.argv[1:]:
    regimes, few, source = argument.split(",")
    load(source)
    chosen = cases[:1] if few else cases
    print(max(
        w.largest(make, {}, torch.float32, regime, shapes, steps=1 if few else 2, **options)
        for make, options in chosen for regime in regimes.split("+")
    ))
"""

COMPILE = """
import warnings
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from paribus.techniques.adamp.kernels import cuda

kinds = {"units": "*i32", "table": "*i64", "views": "*i32", "sums": "*fp32", "rates": "*fp32", "norms": "*fp32"}

def compiled(kernel, **constants):
    names = kernel.arg_names
    kind = {n: "constexpr" if n in constants else kinds.get(n, "fp32") for n in names}
    source = ASTSource(fn=kernel, signature=kind, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=cuda._PLAIN).asm["ptx"]

tile = {"ROWS": 2, "WIDTH": 1024}
made = [compiled(cuda._test_sums, **tile), compiled(cuda._decide, BLOCK=1024)]
for one in (True, False):
    made.append(compiled(cuda._step, ONE=one, ADAM=True, NESTEROV=True, ALIAS=False, **tile))
    made.append(compiled(cuda._step, ONE=one, ADAM=False, NESTEROV=False, ALIAS=True, **tile))
made.append(compiled(cuda._layer, BLOCK=1024, ADAM=True, NESTEROV=False, ALIAS=False, **tile))
assert not any("fma.rn" in ptx for ptx in made[:1]), "sums are to be rounded as on a CPU"
print(len(made))
"""


def told(code: str, folder: Path, *arguments: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_interpreted_kernels_are_the_reference(tmp_path: Path) -> None:
    (worst,) = told(COMPARE, tmp_path, "channel+layer+neither,,", TRITON_INTERPRET="1")
    assert float(worst) <= 1e-6


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    assert told(COMPILE, tmp_path, TRITON_CACHE_DIR=str(tmp_path / "cache")) == ["7"]


MUTANTS = [
    ("tl.where(by_layer, 2, 0)", "tl.where(by_layer, 0, 0)", "layer"),
    ("decay * wd_ratio, decay)", "decay, decay)", "channel"),
    ("limit = delta / tl.sqrt(length.to(tl.float32))", "limit = delta * 100", "neither"),
    ("along = tl.where(view == 1, _share(uw, ww, eps), 0.0)", "along = tl.where(view == 1, 0.0 * uw, 0.0)", "channel"),
]


def test_negative_control_each_mutant_of_the_kernels_is_noticed(tmp_path: Path) -> None:
    from paribus.techniques.adamp.kernels import dispatch

    text = Path(dispatch.__file__).with_name("cuda.py").read_text()
    arguments = ["channel+layer+neither,few,"]
    for i, (old, new, regime) in enumerate(MUTANTS):
        assert text.count(old) == 1
        broken = tmp_path / f"broken{i}.py"
        broken.write_text(text.replace(old, new))
        arguments.append(f"{regime},few,{broken}")
    whole, *mutants = (float(x) for x in told(COMPARE, tmp_path, *arguments, TRITON_INTERPRET="1"))
    assert whole <= 1e-6
    assert all(worst > 1e-5 for worst in mutants), mutants
