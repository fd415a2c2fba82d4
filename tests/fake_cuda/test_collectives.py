"""Two processes of which one is there: what goes to NCCL is on the device and contiguous, and costs no wait."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from fake_cuda.cases import parse
from fake_cuda.device import FakeDevice
from fake_cuda.hooks import why_not_here
from fake_cuda.steps import CUDA, Bench, on_fake_cuda
from paribus.core.evaluation import make_context
from paribus.engine import distributed
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.stop import StopRequest
from paribus.engine.window import MetricAccumulator
from paribus.recipe.build import build_evaluators

pytestmark = pytest.mark.skipif(why_not_here() is not None, reason=str(why_not_here()))

_CASE = "cifar10_resnet18 cutmix processes=2"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A case as rank 0 of two. DistributedDataParallel's reducer is C++ that reads gradients, so it stays out."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    monkeypatch.setattr(distributed, "wrap_ddp", lambda model, device: model)
    try:
        with on_fake_cuda(parse(_CASE)) as made:
            yield made
    finally:
        dist.destroy_process_group()


def _taken(device: FakeDevice) -> list[str]:
    """The names of the collectives so far, once checked."""
    for name, tensors in device.collectives:
        assert tensors, name
        for tensor in tensors:
            assert tensor.device == CUDA, name
            assert tensor.is_contiguous(), name
    names = [name for name, _ in device.collectives]
    device.collectives.clear()
    return names


def test_a_step_alone_takes_no_collective_and_a_log_point_takes_one(bench: Bench) -> None:
    window = MetricAccumulator(bench.world, CUDA)
    for step in range(2):
        batch = bench.loader.batch(step)
        with bench.device.count() as count:
            window.add(bench.method.train_step(batch, bench.at(step)), batch.size)
        assert count.waits == []
    assert _taken(bench.device) == []
    window.flush(2)
    assert _taken(bench.device) == ["allreduce_"]
    window.add({"train/loss": torch.zeros((), device=CUDA)}, 128)
    window.state_dict()
    assert _taken(bench.device) == ["allgather_"]


def test_an_evaluation_makes_buffers_equal_and_adds_up_its_sums(bench: Bench) -> None:
    evaluators = build_evaluators(bench.recipe, bench.data)
    evaluate(bench.method, evaluators, bench.data.splits, make_context(bench.data, bench.place))
    names = _taken(bench.device)
    buffers = list(bench.method.eval_model.buffers())  # type: ignore[attr-defined]
    assert names.count("broadcast_") == len(buffers) > 0
    assert set(names) == {"broadcast_", "allreduce_"}


def test_ranks_agree_to_stop_on_the_device(bench: Bench) -> None:
    StopRequest().should_stop(World(0, 2), CUDA, now=True)
    assert _taken(bench.device) == ["allreduce_"]


def test_negative_control_a_tensor_of_the_host_is_noticed(bench: Bench) -> None:
    bench.device.collectives.append(("allreduce_", [torch.zeros(2)]))
    with pytest.raises(AssertionError, match="allreduce_"):
        _taken(bench.device)
