"""The Triton kernels' arithmetic, without a GPU: Triton's interpreter runs them on CPU tensors. TRITON_INTERPRET is
read when a kernel is defined, so the checks run in other processes.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

COMPARE = """
import sys
import torch
from paribus.techniques.adamp.kernels import dispatch

torch.set_num_threads(1)
from helpers import steps_apart as w
from helpers.kernels_ahead import load_kernels

choose = dispatch._choose_form
dispatch._choose_form = lambda leaf, group: choose(leaf, group) if group["foreach"] is False else "triton"

shapes = [(6, 4, 3, 3), (20, 40), (40, 9), (1100,), (), (3, 1500), (0, 3)]
# both sides of every width, of a tile's rows and elements, and of a multiple of four; one row, no row, no element
sweep = [
    (1, 16), (1, 17), (3, 128), (3, 129), (2, 1024), (2, 1025), (1, 2048), (1, 2049), (1100, 5), (130, 16), (33, 15),
    (6, 4, 3, 3), (7, 5, 1, 1), (16, 1, 3, 3), (5, 3, 7, 7), (), (1,), (1023,), (1024,), (1025,), (2050,), (0, 3),
    (4, 0), (0,), (2, 3, 4, 5, 2), (33, 31),
]
cases = [
    (w.adamp, {}), (w.adamp, {"nesterov": True, "lr": torch.tensor(0.02)}), (w.sgdp, {}),
    (w.sgdp, {"nesterov": True}), (w.sgdp, {"alias_momentum": True}),
]
for argument in sys.argv[1:]:
    regimes, much, source = argument.split(",")
    load_kernels(source)
    chosen = cases[:1] if much == "few" else cases
    own = sweep if much == "sweep" else shapes
    print(max(
        w.largest(make, {}, torch.float32, regime, own, steps=1 if much == "few" else 2, **options)
        for make, options in chosen for regime in regimes.split("+")
    ))
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
@pytest.mark.parametrize("offsets", ["2**31", "0"])
def test_the_interpreted_kernels_are_the_reference_for_every_class_of_rows(offsets: str, tmp_path: Path) -> None:
    from paribus.techniques.adamp.kernels import dispatch

    text = Path(dispatch.__file__).with_name("cuda.py").read_text()
    source = tmp_path / "kernels.py"
    source.write_text(text.replace("_OFFSETS = 2**31", f"_OFFSETS = {offsets}"))
    (worst,) = told(COMPARE, tmp_path, f"channel+layer+neither,sweep,{source}", TRITON_INTERPRET="1")
    assert float(worst) <= 2e-6


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
