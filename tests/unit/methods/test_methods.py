"""Schedules, optimizers' groups, the update and the average of weights."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.trainings import recipe_of, workbench
from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.streams import stream
from paribus.methods import optimizers
from paribus.methods.optimizers import SGD, AdamW, FusedOptimizerFactory
from paribus.methods.schedules import Constant, Cosine, CosineByEpoch, Linear, Step, explain_long_warmup
from paribus.methods.supervised import SupervisedTraining
from paribus.methods.update import GradientStep
from paribus.models.groups import decay_groups
from paribus.techniques.adamp import AdamPOptimizer


def factors(schedule, total: int = 100) -> list[float]:
    return [schedule(Progress(s, total, 0, steps_per_epoch=10)) for s in range(total)]


def test_schedules_are_what_they_say() -> None:
    cosine = factors(Cosine(warmup="1ep", floor=0.1))
    assert cosine[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert cosine[55] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 45 / 90)) / 2)
    step = factors(Step(milestones=(0.5, 0.75), gamma=0.1))
    assert [step[s] for s in (0, 49, 50, 74, 75, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    linear = factors(Linear(warmup="5ba", warmup_start=0.2))
    assert linear[0] == pytest.approx(0.36)
    assert linear[5] == 1
    assert linear[99] == pytest.approx(1 - 94 / 95)
    assert set(factors(Constant())) == {1.0}


def test_a_warm_up_longer_than_the_run_is_one_line_that_says_how_far_it_gets() -> None:
    for schedule in (Cosine(warmup="5ep"), Linear(warmup="5ep"), Step(warmup="5ep"), Constant(warmup="50ba")):
        told = explain_long_warmup(schedule, total=20, steps_per_epoch=10)
        assert told.startswith(
            f"schedule.warmup: {schedule.warmup} is 50 steps and the run has 20, so the learning rate"
        )
        assert schedule(Progress(19, 20, 0, 10)) == 20 / 50
        assert "no further than 40.0% of optimizer.lr" in told
        assert explain_long_warmup(schedule, total=50, steps_per_epoch=10) == "", "its last step has the full rate"
    late = explain_long_warmup(CosineByEpoch(warmup="5ep"), total=20, steps_per_epoch=10)
    assert "no further than 20.0%" in late, "one epoch of five, as CosineByEpoch rises once an epoch"
    assert explain_long_warmup(lambda at: 1.0, total=1, steps_per_epoch=10) == "", "a schedule of a user's own"


def test_cosine_and_step_are_torchs() -> None:
    for ours, theirs in (
        (Cosine(), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 100)),
        (Step(), lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [50, 75])),
    ):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = theirs(optimizer)
        for step, factor in enumerate(factors(ours)):
            assert factor == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9), step
            optimizer.step()
            scheduler.step()


class WithToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.frozen = nn.Parameter(torch.zeros(1, 4)), nn.Parameter(torch.zeros(3), requires_grad=False)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def no_weight_decay(self) -> set[str]:
        return {"token"}


def test_matrices_decay_and_the_rest_does_not() -> None:
    on, off = decay_groups(WithToken(), "matrices")
    assert (on.names, on.decays) == (("net.0.weight",), True)
    assert (set(off.names), off.decays) == ({"token", "net.0.bias", "net.1.weight", "net.1.bias"}, False)
    (everything,) = decay_groups(WithToken(), "all")
    assert len(everything.names) == 5


def stepped(update: GradientStep, optimizer_of=torch.optim.SGD, steps: int = 5) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4))
    optimizer = optimizer_of(model.parameters(), lr=0.1)
    scaler = update.scaler(torch.device("cpu"))
    x, y = torch.randn(8, 3, 2, 2, generator=stream(0, "x")), torch.arange(8) % 4
    batch = Batch(x, y, torch.arange(8), torch.arange(8), 8, 4)
    for _ in range(steps):
        update(lambda b: (nn.functional.cross_entropy(model(b.inputs), b.targets), {}), batch, model, optimizer, scaler)
    return model


def distance(a: nn.Module, b: nn.Module) -> float:
    return max(float((p - q).detach().abs().max()) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_accumulation_adds_up_to_the_whole_batch() -> None:
    assert distance(stepped(GradientStep()), stepped(GradientStep(accumulate=4))) < 1e-6
    # negative control: one step fewer
    assert distance(stepped(GradientStep()), stepped(GradientStep(), steps=4)) > 1e-3


def test_half_precision_stays_near_and_fp16_scales_its_loss() -> None:
    for precision in ("bf16", "fp16"):
        assert 0 < distance(stepped(GradientStep()), stepped(GradientStep(precision=precision))) < 0.02
    assert GradientStep(precision="fp16").scaler(torch.device("cpu")).is_enabled()


def test_clipping_limits_the_step_and_unscales_first() -> None:
    unclipped, clipped = stepped(GradientStep(), steps=1), stepped(GradientStep(clip_norm=1e-3), steps=1)
    start = stepped(GradientStep(), steps=0)
    norm = sum(
        float((p - q).detach().square().sum()) for p, q in zip(clipped.parameters(), start.parameters(), strict=True)
    )
    assert math.sqrt(norm) == pytest.approx(0.1 * 1e-3, rel=1e-2)
    assert distance(unclipped, start) > 1e-3
    half = stepped(GradientStep(clip_norm=1e-3, precision="fp16"), steps=1)
    assert distance(half, clipped) < 1e-5


def test_evaluation_uses_the_average() -> None:
    recipe = recipe_of("experiment=smoke", "ema.decay=0.5")
    data, method, _ = workbench(recipe)
    assert isinstance(method, SupervisedTraining)
    loader = data.loader(recipe.batch_size, 0)
    for step in range(3):
        method.train_step(loader.batch(step), Progress(step, 10, 0))
    method.prepare_eval()
    inputs = loader.batch(0).inputs
    assert not torch.equal(method.predict(inputs), method.model(inputs))
    assert not method.eval_model.training


def made_by(factory, model: nn.Module) -> torch.optim.Optimizer:
    return factory(decay_groups(model, "all"))


@pytest.mark.parametrize("factory", [AdamW(), SGD(), AdamPOptimizer()], ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("fused", [True, False])
def test_an_optimizer_goes_on_with_its_own_kernels(factory, fused: bool) -> None:
    def trained(switched: FusedOptimizerFactory) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = nn.Linear(3, 2)
        nn.init.ones_(model.weight)
        optimizer = made_by(switched, model)
        for _ in range(2):
            model.weight.grad, model.bias.grad = torch.full((2, 3), 0.5), torch.full((2,), 0.25)
            optimizer.step()
        return model, optimizer

    _, before = trained(FusedOptimizerFactory(factory, not fused))
    model, optimizer = trained(FusedOptimizerFactory(factory, fused))
    assert all(bool(group["fused"]) == fused for group in optimizer.param_groups)
    optimizer.load_state_dict(before.state_dict())
    assert all(bool(group["fused"]) == fused for group in optimizer.param_groups)
    weight = model.weight.detach().clone()
    model.weight.grad, model.bias.grad = torch.full((2, 3), 0.5), torch.full((2,), 0.25)
    optimizer.step()
    assert not torch.equal(model.weight, weight)


class CountsReads(TorchDispatchMode):
    """Counts the numbers that the host reads from tensors: on a GPU each read is a wait."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def train_in_fp16(optimizer_factory, overflows: set[int], clip: float | None, steps: int = 6) -> tuple[list, int]:
    """Weights, state and loss scale after steps of which some overflow, and how often the host read a number."""
    model = nn.Linear(8, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    optimizer, update = optimizer_factory(decay_groups(model, "all")), GradientStep(precision="fp16", clip_norm=clip)
    scaler = update.scaler(torch.device("cpu"))
    scaler.load_state_dict({**scaler.state_dict(), "scale": 1024.0})  # nothing overflows unasked
    reads, at = CountsReads(), torch.arange(4)
    for step in range(steps):
        inputs = torch.randn(4, 8, generator=stream(0, "fp16", step)) * (1e6 if step in overflows else 1)
        batch = Batch(inputs, at % 3, at, at, 4, 3)
        with reads:
            update(
                lambda b: (nn.functional.cross_entropy(model(b.inputs), b.targets), {}), batch, model, optimizer, scaler
            )
    state = [value for kept in optimizer.state.values() for value in kept.values()]
    return [*model.parameters(), *state, torch.tensor(scaler.get_scale())], reads.count


TORCHS = [AdamW(weight_decay=0.1), SGD(weight_decay=0.1), SGD(nesterov=True), SGD(momentum=0.0), SGD(dampening=0.5)]


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("overflows", [set(), {0}, {0, 1}, {2, 4}], ids=str)
@pytest.mark.parametrize("factory", TORCHS, ids=str)
def test_fused_fp16_skips_an_overflow_without_a_read_as_with_one(
    factory, overflows: set[int], clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = FusedOptimizerFactory(factory, True)
    found, reads = train_in_fp16(fused, overflows, clip)
    # negative control: as it was, by a scaler that reads the flag and calls no step at all
    monkeypatch.setattr(optimizers, "_leave_overflow_to_kernels", lambda optimizer: None)
    wanted, before = train_in_fp16(fused, overflows, clip)
    assert before == 6, "one a step"
    assert reads == (6 if getattr(factory, "dampening", 0) else 0)
    assert len(found) == len(wanted)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert float(found[-1]) == 2.0 ** (10 - len(overflows))


def test_an_optimizer_that_cannot_skip_on_the_device_waits_as_before() -> None:
    found, reads = train_in_fp16(FusedOptimizerFactory(AdamPOptimizer(), True), {0, 2}, None)
    assert reads == 6
    assert all(torch.isfinite(tensor).all() for tensor in found)

    class Own(torch.optim.AdamW):
        def step(self, closure=None):
            return super().step(closure)

    class OwnFactory:
        decay = "all"

        def __call__(self, groups):
            return Own([p for g in groups for p in g.parameters])

    assert not hasattr(
        made_by(FusedOptimizerFactory(OwnFactory(), True), nn.Linear(3, 2)), "_step_supports_amp_scaling"
    )


def test_fused_kernels_that_are_not_there_are_refused() -> None:
    class Plain:
        decay = "all"

        def __call__(self, groups):
            return torch.optim.LBFGS([p for g in groups for p in g.parameters])

    with pytest.raises(ConfigError, match=r"runtime\.fused: found true; LBFGS has no fused kernels"):
        made_by(FusedOptimizerFactory(Plain(), fused=True), nn.Linear(3, 2))


def test_a_submodule_is_in_training_mode_in_every_step_after_an_evaluation() -> None:
    recipe = recipe_of("experiment=smoke", "model.norm=batch", "model.dropout=0.5")
    data, method, _ = workbench(recipe)
    assert isinstance(method, SupervisedTraining)
    loader = data.loader(recipe.batch_size, 0)
    modes = list[bool]()
    for module in method.model.modules():
        module.register_forward_pre_hook(lambda m, _: modes.append(m.training))
    for step in range(3):
        modes.clear()
        method.train_step(loader.batch(step), Progress(step, 10, 0))
        assert len(modes) > 5
        assert all(modes)
        method.prepare_eval()
        assert not any(m.training for m in method.model.modules())
