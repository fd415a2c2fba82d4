"""Device, threads and numerics of this process: what may change speed and last bits, never the recipe."""

import functools
import os
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.streams import key64, stream, stream_state, use_generator
from paribus.engine.distributed import World
from paribus.engine.threads import choose_threads
from paribus.engine.timeouts import check_timeout

CUDA_GRAPHS = ("reduce-overhead", "max-autotune")  # modes of torch.compile that replay CUDA graphs


@schema
class Runtime:
    """device: auto takes CUDA when it is there. threads: of torch on the CPU; auto is OMP_NUM_THREADS,
    else SLURM_CPUS_PER_TASK, else one for a small network (engine/threads.py) and all cores the process may use for
    others; a run that is resumed keeps the count it had.

    channels_last: layout of inputs and convolutions. compile: torch.compile, which needs a C++ compiler on a CPU;
    reduce-overhead replays CUDA graphs, max-autotune also benchmarks kernels first, max-autotune-no-cudagraphs does
    that alone. Graphs and update.accumulate above 1 do not go together.
    deterministic: only deterministic kernels; an operation without one is an error.
    tf32: let CUDA round float32 products to TensorFloat-32. fused: the optimizer's fused kernels.
    prefetch: on CUDA, make the next batch on a stream of its own while a step runs.
    sync_bn: BatchNorm takes its statistics over all processes, on CUDA; else over each one's own images.
    timeout: seconds that a process waits in a collective for one that is stuck, before it ends with an error; one that
    is gone is noticed in half a minute (engine/timeouts.py).
    """

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    channels_last: bool = True
    compile: bool | Literal["reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = False
    deterministic: bool = False
    tf32: bool = False
    fused: bool = False
    prefetch: bool = True
    sync_bn: bool = False
    timeout: Annotated[int, Field(le=86_400), AfterValidator(check_timeout)] = 1800

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


def apply_runtime(runtime: Runtime, world: World) -> torch.device:
    """Apply the settings to this process, before any work, and return the device."""
    device = _choose_device(runtime.device, world)
    torch.set_num_threads(choose_threads(runtime.threads, world).count)
    apply_numerics(runtime)
    if device.type == "cuda":
        # Triton launches, streams, pinned memory and synchronisation take the current device, which would be cuda:0
        torch.cuda.set_device(device)
    return device


def apply_numerics(runtime: Runtime) -> None:
    """Apply what changes bits and speed and can be changed again: TensorFloat-32 and deterministic kernels."""
    torch.set_float32_matmul_precision("high" if runtime.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = runtime.tf32
    torch.backends.cudnn.benchmark = not runtime.deterministic
    if runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    if runtime.deterministic != torch.are_deterministic_algorithms_enabled():  # setting it imports a compiler, 0.8 s
        torch.use_deterministic_algorithms(runtime.deterministic)


def _choose_device(wanted: str, world: World) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if wanted == "cpu" or (wanted == "auto" and not has_cuda):
        return torch.device("cpu")
    if not has_cuda:
        raise ConfigError(
            f"runtime.device: found {wanted}; torch finds no CUDA device on this machine; use runtime.device=cpu"
        )
    index = int(wanted.partition(":")[2] or world.local_rank)
    if world.launcher == "srun" and torch.cuda.device_count() == 1:  # each task was given its own (--gpus-per-task)
        index = 0
    if index >= torch.cuda.device_count():
        raise ConfigError(f"runtime.device: found cuda:{index}; there are {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", index)


def build_from_stream(make: Any, seed: int, name: str) -> nn.Module:
    """Call `make` with torch's global generator set to the stream of this name: layers initialise from it.

    On the CPU and with one thread, so that the same seed gives the same weights on every device and with any number of
    threads: torch's orthogonal initialisation, for one, rounds differently with two.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with use_generator(stream(seed, "init", name)):
            return make()
    finally:
        torch.set_num_threads(threads)


def check_graphs(mode: bool | str, accumulate: int, device: torch.device) -> None:
    """Raises ConfigError for CUDA graphs with accumulation. A graph writes its gradients into the same memory at every
    replay, so that those of a part would be overwritten before they are added up, or refused (pytorch#96693, #169545).
    """
    if mode in CUDA_GRAPHS and accumulate > 1 and device.type == "cuda":
        raise ConfigError(
            f"runtime.compile: found {mode}, which replays CUDA graphs, with update.accumulate={accumulate}: gradients "
            "would be overwritten between its parts; use runtime.compile=true or max-autotune-no-cudagraphs, or "
            "update.accumulate=1"
        )


def compile_model(model: nn.Module, mode: bool | str) -> nn.Module:
    """The module as `runtime.compile` says; the same parameters, so the uncompiled one can be evaluated."""
    if not mode:
        return model
    return torch.compile(model, mode=mode if isinstance(mode, str) else None)  # pyright: ignore[reportReturnType]


def seed_global_generators(at: Progress, world: World, device: torch.device) -> None:
    """Set torch's global generators, which dropout and drop-path draw from, to this step's stream for this rank.

    About 8 µs, whether or not the network draws, which only running it would show.
    """
    torch.default_generator.set_state(_generator_states(at.seed, at.step // _BLOCK, world.rank)[at.step % _BLOCK])
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(key64(at.seed, "modules", at.step, world.rank))


_BLOCK = 16


@functools.lru_cache(maxsize=1)
def _generator_states(seed: int, block: int, rank: int) -> list[Tensor]:
    """The generator's states in _BLOCK steps. Made together: one made between two steps, which evict the CPU caches,
    costs three times as much. A pure function, cached for speed only."""
    first = block * _BLOCK
    return [stream_state(seed, "modules", step, rank) for step in range(first, first + _BLOCK)]
