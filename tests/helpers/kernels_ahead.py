"""Compile the Triton kernels that a step launches for a GPU that is not here, and say what each one uses.

A step is taken on CPU tensors; every launch in it is compiled as Triton would compile it there, with the same constants
and the same knowledge of the arguments, and is not run. It changes Triton for the whole process, so it has one of its
own: `python -c "from helpers import kernels_ahead; kernels_ahead.main()" 90 plain`.
"""

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from helpers.steps_apart import Make, adamp, sgdp

RULES: dict[str, tuple[Make, dict[str, Any]]] = {
    "plain": (adamp, {}),
    "nesterov": (adamp, {"nesterov": True}),
    "sgdp": (sgdp, {}),
    "sgdp-nesterov": (sgdp, {"nesterov": True}),
    "sgdp-alias": (sgdp, {"alias_momentum": True}),
}
# rows of each width, of a multiple of 4 numbers and not
SHAPES = [(40, 9), (40, 16), (40, 99), (40, 100), (6, 999), (6, 1000), (3, 1999), (3, 2000)]
_VECTOR = re.compile(r"(?:ld|st)\.global[.\w:]*\.v4\.b32")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")


class _AbsentGpu:
    """As much of Triton's driver as compiling asks for."""

    def __init__(self, arch: int) -> None:
        from triton.backends.compiler import GPUTarget

        self._target = GPUTarget("cuda", arch, 32)

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return self._target.arch  # kernels are kept by device

    def get_current_stream(self, device: int) -> int:
        return 0


def main() -> None:
    """Arguments: an architecture, rules joined by "+", and if need be shapes as 6x1000+3x9 and another source of the
    kernels. Prints JSON: for each kernel [registers, bytes of stack, 128-bit accesses, fused multiply-adds]."""
    arch, rules, shapes, source, *_ = [*sys.argv[1:], "", ""]
    chosen = [tuple(int(n) for n in shape.split("x")) for shape in shapes.split("+")] if shapes else SHAPES
    print(json.dumps(compile_steps(int(arch), rules.split("+"), chosen, source)))


def compile_steps(arch: int, rules: list[str], shapes: list[Any], source: str) -> dict[str, list[int]]:
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from paribus.techniques.adamp.kernels import dispatch

    found: dict[str, list[int]] = {}
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        found[_name(rule, self.fn.__name__, options)] = _usage(kernel)

    driver.set_active(_AbsentGpu(arch))  # type: ignore[arg-type]
    JITFunction.run = compile_only
    dispatch._choose_form = lambda param, group: "triton"
    dispatch._try_triton = lambda device: True  # its step of one number is no kernel of ours
    load_kernels(source)
    for rule in rules:
        make, options = RULES[rule]
        made = [nn.Parameter(torch.ones(shape)) for shape in shapes]
        for p in made:
            p.grad = torch.ones_like(p)
        make(made, **options).step()
    return found


def load_kernels(source: str) -> None:
    """Use the kernels in this file for the module's own."""
    import paribus.techniques.adamp.kernels as home

    if source:
        name = "paribus.techniques.adamp.kernels.cuda"
        spec = importlib.util.spec_from_file_location(name, source)
        assert spec is not None
        assert spec.loader is not None
        home.cuda = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(home.cuda)


def _name(rule: str, kernel: str, options: dict[str, Any]) -> str:
    if kernel == "_decide":
        return "_decide"
    width = f"{options['WIDTH']}{'' if options.get('ONE', True) else '+'}"
    words = [kernel, width, "aligned" if options["ALIGNED"] else "any", "wide" if options["WIDE"] else ""]
    return " ".join(filter(None, [*words, rule if kernel != "_test_sums" else ""]))


def _usage(kernel: Any) -> list[int]:
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(kernel.asm["cubin"])
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(cubin)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (usage,) = _USAGE.findall(text)
    ptx = kernel.asm["ptx"]
    return [int(usage[0]), int(usage[1]), len(_VECTOR.findall(ptx)), ptx.count("fma.rn")]
