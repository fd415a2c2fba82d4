"""Named random streams: every random number is a pure function of (seed, name, key).

Nothing in paribus reads or advances a global generator. So a batch can be made again from its step alone, resuming
restores no generator state, and switching a technique on leaves order, augmentation and initialisation as they were.
"""

import functools
import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from paribus.core.renamed import old_names

# Layout of torch's CPU generator state, 632 uint64: seed, (left, seeded), next, and 624 words of the Mersenne Twister.
# `left = 1`, as in a fresh generator, makes the first draw regenerate the block from the words we put there.
_FIRST_WORD, _WORDS = 3, 624


def _hash_bytes(seed: int, name: str, key: tuple[int | str, ...], size: int) -> bytes:
    # repr keeps 1 and "1", and ("a", "b") and ("a, b",), apart
    return hashlib.shake_256(repr((int(seed), name, key)).encode()).digest(size)


def key64(seed: int, name: str, *key: int | str) -> int:
    """A signed 64-bit key for the stream of this name."""
    return int.from_bytes(_hash_bytes(seed, name, key, 8), "little", signed=True)


def stream(seed: int, name: str, *key: int | str) -> torch.Generator:
    """A CPU generator determined by (seed, name, *key) alone.

    The whole Mersenne Twister state comes from the hash: `manual_seed` keeps only 32 bits of its argument, and among a
    million streams seeded that way about a hundred would be the same.
    """
    generator = torch.Generator()
    generator.set_state(stream_state(seed, name, *key))
    return generator


def stream_state(seed: int, name: str, *key: int | str) -> Tensor:
    """What `get_state` of that stream returns, without making a generator: 7 µs, 5 of them for the hash."""
    state = _fresh_state().copy()
    state[_FIRST_WORD : _FIRST_WORD + _WORDS] = np.frombuffer(_hash_bytes(seed, name, key, 4 * _WORDS), dtype="<u4")
    return torch.from_numpy(state.view(np.uint8))


@functools.cache
def _fresh_state() -> np.ndarray[Any, np.dtype[np.uint64]]:
    return torch.Generator().manual_seed(0).get_state().numpy().view("<u8")


@contextmanager
def use_generator(generator: torch.Generator) -> Iterator[None]:
    """Let code that insists on torch's global CPU generator (layer constructors) draw from a stream instead."""
    before = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        torch.set_rng_state(before)


@contextmanager
def use_module_stream(device: torch.device, seed: int, name: str, *key: int | str) -> Iterator[None]:
    """Let dropout and drop-path of a further network draw from a stream of their own, which torch has no argument for.
    Afterwards the global generators are where they were, so that another network draws as it would alone."""
    on_device = torch.cuda.default_generators[device.index] if device.type == "cuda" else None
    before = on_device.get_state() if on_device is not None else None
    try:
        with use_generator(stream(seed, name, *key)):
            if on_device is not None:
                on_device.manual_seed(key64(seed, name, *key))
            yield
    finally:
        if on_device is not None and before is not None:
            on_device.set_state(before)


def _splitmix64(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, whose products wrap the same way on every device."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15: SplitMix64's odd increment


def uniform_from_key(key: int, ids: Tensor, n: int) -> Tensor:
    """`uniform` for a key made by `key64`; only tensor operations, so it compiles."""
    return uniform_at(key, ids[:, None], torch.arange(n, device=ids.device))


def uniform_at(key: int, ids: Tensor, draws: Tensor) -> Tensor:
    """One number each. draws: which of its sample's draws, from 0. ids, draws: int64, broadcast together."""
    per_sample = _splitmix64(ids * _GOLDEN + key)
    bits = _splitmix64(per_sample + (draws + 1) * _GOLDEN)
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24  # 24 bits: every value is exact in float32


def uniform(seed: int, name: str, epoch: int, ids: Tensor, n: int) -> Tensor:
    """Numbers in [0, 1) keyed by sample: the same on any device, in any batch, on any rank.

    ids: (b,) int64 sample indices, on the device where the numbers are wanted. Returns (b, n) float32, n draws a
    sample.
    """
    return uniform_from_key(key64(seed, name, epoch), ids, n)


def normal(seed: int, name: str, epoch: int, ids: Tensor, n: int) -> Tensor:
    """(b, n) float32, standard normal, keyed by sample as `uniform` is. Within ±5.3, for numbers of 24 bits."""
    middle = 2 * uniform(seed, name, epoch, ids, n) - 1 + 2.0**-24  # the middle of each of 2²⁴ parts of (−1, 1)
    return math.sqrt(2) * torch.erfinv(middle)


def permutation(seed: int, name: str, epoch: int, n: int, device: torch.device) -> Tensor:
    """(n,) int64: 0 to n − 1 in an order drawn on the device, so that nothing is copied to it. The same on any."""
    places = torch.arange(n, device=device)
    return uniform(seed, name, epoch, places, 1)[:, 0].argsort(stable=True)


if not TYPE_CHECKING:
    __getattr__ = old_names(__name__, {"drawing_from": "use_generator", "uniform_from": "uniform_from_key"})
