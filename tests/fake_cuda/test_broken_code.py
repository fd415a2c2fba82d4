"""Negative controls: the package with one line broken on purpose fails on the fake device, with that line's place."""

import inspect
from types import FunctionType

import pytest

from fake_cuda.broken import broken
from fake_cuda.cases import parse
from fake_cuda.device import DeviceMismatch, HostWaits
from fake_cuda.hooks import why_not_here
from fake_cuda.steps import measure, measure_evaluation
from fake_cuda.table import exceeded, read_ceilings, to_costs
from paribus.data.ops.inputs import InputTransform
from paribus.engine.prefetch import PrefetchLoader
from paribus.evaluators.accuracy import Accuracy
from paribus.methods import objectives
from paribus.methods.ema import WeightAverage
from paribus.methods.update import GradientStep
from paribus.techniques import cutmix, cutout

pytestmark = pytest.mark.skipif(why_not_here() is not None, reason=str(why_not_here()))

# of which the loader makes one batch at a time, and no block
_LARGER = "smoke baseline data.size=64 data.n=1024 batch_size=128"
_LOGITS = "logits = model(batch.inputs)"
_LAM = "lam = mix.lam.to(device, non_blocking=True)"
_LOSS = "loss, metrics = loss_of(part)"
_STEP = "scaler.step(optimizer)"
_NORMALISE = "return normalize(images, self._mean, self._std, self._place.memory_format)"
_TO_DEVICE = "self._mean, self._std = self._mean.cpu().to(images.device), self._std; "
_AVERAGE = "weight = 1 - decay_at(step, self._decay, self._warmup)"
_WAITS = {
    "item in the objective": ("step", "smoke baseline", objectives._predict, _LOGITS,
                              f"{_LOGITS}; logits[0, 0].item()"),
    "a branch on the loss": ("step", "smoke baseline", GradientStep.__call__, _STEP, f"{_STEP} if loss > 0 else None"),
    "a tensor in an f-string": ("step", "smoke baseline", objectives._predict, _LOGITS,
                                f'{_LOGITS}; f"{{logits.sum()}}"'),
    "a tensor printed": ("step", "smoke baseline", objectives._predict, _LOGITS, f"{_LOGITS}; str([logits])"),
    "a value in the average": ("step", "smoke baseline ema.decay=0.9", WeightAverage.update, _AVERAGE,
                               f"{_AVERAGE}; next(model.parameters()).sum().tolist()"),
    "a blocking copy in a transform": ("step", "smoke cutmix", cutmix.mix_tensors, _LAM, "lam = mix.lam.to(device)"),
    "a CPU index on a CUDA tensor": ("step", "smoke cutmix transforms.cutmix.per=sample", cutmix.mix_tensors,
                                     "return apply(inputs, targets, others[rows]",
                                     "return apply(inputs, targets, others[mix.partners]"),
    "a tensor made anew in the loader": ("batch", _LARGER, InputTransform.transform_eval, _NORMALISE,
                                         f"torch.tensor(self._input_spec.mean, device=images.device); {_NORMALISE}"),
    "a copy to the host and back": ("batch", _LARGER, InputTransform.transform_eval, _NORMALISE,
                                    f"{_TO_DEVICE}{_NORMALISE}"),
    "the host waits for the prefetch": ("batch", _LARGER, PrefetchLoader.batch,
                                        "current.wait_event(ready.event)", "ready.event.synchronize()"),
}  # fmt: skip


@pytest.mark.parametrize("name", _WAITS)
def test_a_wait_is_told_with_its_line(name: str) -> None:
    part, case, function, old, new = _WAITS[name]
    assert measure(parse(case))[part].waits == []
    with broken(_function(function), old, new) as place:
        counts = measure(parse(case))
    assert counts[part].waits
    assert all(place in wait.split(" < ")[0] for wait in counts[part].waits), counts[part].waits
    others = {"batch", "step"} - {part}
    assert not any(counts[other].waits for other in others)


_WHERE = "return torch.where(box_mask(box, *inputs.shape[-2:]), 0, inputs)"


@pytest.mark.parametrize(
    ("error", "new"),
    [
        (HostWaits, "return inputs[box_mask(box, *inputs.shape[-2:]).expand_as(inputs)]"),
        (HostWaits, "return inputs * box_mask(box, *inputs.shape[-2:]).nonzero().shape[0]"),
        (HostWaits, "inputs = inputs.clone(); inputs[inputs > 0] = inputs.new_zeros(()); return inputs"),
        (DeviceMismatch, "return inputs * torch.ones(inputs.shape[1:])"),
        (DeviceMismatch, "return torch.ones(9)[torch.zeros_like(inputs).long()]"),
    ],
    ids=["mask as an index", "nonzero", "a mask assigned a CUDA value", "CPU and CUDA", "CUDA index on a CPU tensor"],
)
def test_what_cannot_go_on_fails_with_its_line(error: type[Exception], new: str) -> None:
    with broken(cutout.apply, _WHERE, new) as place, pytest.raises(error, match=f"at techniques/{place}"):
        measure(parse("smoke cutout"))


@pytest.mark.parametrize(
    ("part", "function", "old", "new"),
    [
        ("optimizer", GradientStep.__call__, _STEP, f"{_STEP}; {_STEP}"),
        ("step", GradientStep.__call__, _LOSS, f"loss_of(part); {_LOSS}"),
        ("batch", InputTransform.transform_eval, _NORMALISE, f"{_NORMALISE.removeprefix('return ')}; {_NORMALISE}"),
        ("transforms", cutmix.mix_tensors, _LAM, f"{_LAM}; paste(inputs, others, rows, mix.box_tlbr)"),
    ],
)  # fmt: skip
def test_work_done_twice_exceeds_the_ceiling(part: str, function: object, old: str, new: str) -> None:
    case = "cifar10_resnet18 cutmix"
    ceilings = read_ceilings()["cases"][case]
    with broken(_function(function), old, new):
        lines = exceeded(to_costs(measure(parse(case))), ceilings, same_torch=True)
    assert any(line.startswith(part) for line in lines)


def test_a_value_read_in_each_batch_of_an_evaluation_is_told() -> None:
    old = "logits = method.predict(batch.inputs).double()"
    before, _ = measure_evaluation(parse("smoke baseline"), "evaluators.accuracy.batch_size=10")
    with broken(_function(Accuracy.__call__), old, f"{old}; logits.sum().item()"):
        after, _ = measure_evaluation(parse("smoke baseline"), "evaluators.accuracy.batch_size=10")
    assert len(after.waits) == len(before.waits) + 10  # 100 images


def _function(of: object) -> FunctionType:
    """Without its decorators."""
    of = inspect.unwrap(of)  # type: ignore[arg-type]
    assert isinstance(of, FunctionType)
    return of
