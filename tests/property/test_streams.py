"""The named streams: distinct, uniform, and deaf to every global generator."""

import hashlib
import random
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.trainings import recipe_of, workbench
from paribus.core import streams
from paribus.core.progress import Progress
from paribus.core.streams import key64, stream, uniform, uniform_from_key
from paribus.engine.distributed import World
from paribus.engine.runtime import seed_global_generators

seeds = st.integers(0, 2**63 - 1)


def test_a_million_names_never_collide() -> None:
    keys = {key64(seed, name, k) for seed in (0, 1) for name in ("order", "cutmix") for k in range(250_000)}
    assert len(keys) == 10**6


def test_streams_keep_apart_what_a_32_bit_seed_would_not() -> None:
    # torch's CPU generator keeps 32 bits of manual_seed: these two would be one
    a, b = (torch.Generator().manual_seed(s) for s in (5, 5 + 2**32))
    assert torch.equal(torch.rand(4, generator=a), torch.rand(4, generator=b))
    firsts = {tuple(torch.randint(2**62, (2,), generator=stream(0, "n", k)).tolist()) for k in range(20_000)}
    assert len(firsts) == 20_000


def test_a_stream_is_the_mersenne_twister_whose_state_is_the_hash() -> None:
    words = np.frombuffer(hashlib.shake_256(repr((7, "order", (3,))).encode()).digest(2496), dtype="<u4")
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    expected = (twister.random_raw(50) & 0xFFFFFF) * 2.0**-24  # torch makes a float32 of the low 24 bits
    assert torch.rand(50, generator=stream(7, "order", 3)).tolist() == expected.tolist()


def splitmix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


@settings(max_examples=200, deadline=None)
@given(key=st.integers(-(2**63), 2**63 - 1), sample=st.integers(0, 2**62), draw=st.integers(0, 6))
def test_uniform_is_two_rounds_of_splitmix64(key: int, sample: int, draw: int) -> None:
    golden = 0x9E3779B97F4A7C15
    bits = splitmix((splitmix((sample * golden + key) % 2**64) + (draw + 1) * golden) % 2**64)
    assert uniform_from_key(key, torch.tensor([sample]), draw + 1)[0, draw].item() == (bits >> 40) * 2.0**-24


def test_the_numbers_are_these_forever() -> None:
    # a change here changes every result ever recorded
    assert torch.randint(10**6, (3,), generator=stream(0, "order", 0)).tolist() == [348502, 753546, 550998]
    numbers = uniform(3, "augment", 2, torch.tensor([0, 49_999]), 2) * 2**24
    assert numbers.long().tolist() == [[16553104, 11837119], [7684024, 10024205]]


@settings(max_examples=25, deadline=None)
@given(seed=seeds, name=st.text(max_size=20), epoch=st.integers(0, 10**6))
def test_uniform_is_uniform_and_unrelated_between_draws_and_samples(seed: int, name: str, epoch: int) -> None:
    u = uniform(seed, name, epoch, torch.arange(20_000), 2).double()
    assert u.min() >= 0
    assert u.max() < 1
    # 5 standard deviations of a mean, a variance and a correlation over 20,000 uniform numbers
    assert abs(u.mean() - 0.5) < 5 * (1 / 12) ** 0.5 / 40_000**0.5
    assert abs(u.var() - 1 / 12) < 5 * (1 / 180) ** 0.5 / 40_000**0.5
    assert abs(torch.corrcoef(u.T)[0, 1]) < 5 / 20_000**0.5
    assert abs(torch.corrcoef(torch.stack((u[1:, 0], u[:-1, 0])))[0, 1]) < 5 / 20_000**0.5


def test_the_cells_of_uniform_are_equally_full() -> None:
    u = uniform(0, "cells", 0, torch.arange(200_000), 1).flatten()
    counts = torch.histc(u, bins=1000, min=0, max=1)
    chi2 = float(((counts - 200) ** 2 / 200).sum())
    assert abs(chi2 - 999) < 5 * (2 * 999) ** 0.5


@settings(max_examples=50, deadline=None)
@given(seed=seeds, ids=st.lists(st.integers(0, 2**40), min_size=1, max_size=30, unique=True), n=st.integers(1, 5))
def test_a_sample_keeps_its_numbers_in_any_batch(seed: int, ids: list[int], n: int) -> None:
    whole = uniform(seed, "augment", 3, torch.tensor(ids), n)
    for i, sample in enumerate(ids):
        assert torch.equal(uniform(seed, "augment", 3, torch.tensor([sample]), n)[0], whole[i])
    assert torch.equal(uniform(seed, "augment", 3, torch.tensor(ids), n + 1)[:, :n], whole)


def test_negative_control_a_hash_that_ignores_the_sample_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_splitmix64", lambda x: x)
    u = uniform(0, "cells", 0, torch.arange(200_000), 1).flatten()
    counts = torch.histc(u, bins=1000, min=0, max=1)
    assert abs(float(((counts - 200) ** 2 / 200).sum()) - 999) > 5 * (2 * 999) ** 0.5


def test_disturbing_every_global_generator_changes_nothing() -> None:
    recipe = recipe_of("experiment=smoke", "model.dropout=0.5", techniques=("cutmix",))

    def three_steps(disturb: bool) -> list[torch.Tensor]:
        def shake(k: int) -> None:
            if disturb:
                random.seed(k), np.random.seed(k), torch.manual_seed(99 + k), torch.rand(7)  # noqa: NPY002

        shake(0)
        data, method, place = workbench(recipe)
        loader = data.loader(recipe.batch_size, recipe.seed)
        for step in range(3):
            shake(step + 1)
            at = Progress(step, 60, 0, loader.steps_per_epoch)
            seed_global_generators(at, World(), place.device)
            method.train_step(loader.batch(step), at)
        return list(method.state_dict()["model"].values())

    assert all(torch.equal(a, b) for a, b in zip(three_steps(False), three_steps(True), strict=True))


def test_streams_leave_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    stream(0, "a"), uniform(0, "a", 0, torch.arange(3), 2)
    recipe = recipe_of("experiment=smoke")
    workbench(recipe)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()  # type: ignore[index]  # noqa: NPY002


def test_compiled_numbers_equal_eager_ones() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # whatever torch raises without a compiler
        pytest.skip(f"torch.compile needs a C++ compiler: {error}")
    ids, key = torch.arange(1000), key64(0, "compiled", 0)
    compiled = torch.compile(uniform_from_key, fullgraph=True)
    assert torch.equal(compiled(key, ids, 3), uniform_from_key(key, ids, 3))


def test_negative_control_dropout_that_nobody_seeds_hears_the_global_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "seed_global_generators", lambda *_: None)
    with pytest.raises(AssertionError):
        test_disturbing_every_global_generator_changes_nothing()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_numbers_are_the_same_on_cuda() -> None:
    ids = torch.arange(10_000)
    assert torch.equal(uniform(1, "x", 2, ids, 4), uniform(1, "x", 2, ids.cuda(), 4).cpu())
