"""Out of distribution: AUROC and FPR95 as scikit-learn and torchmetrics have them, noise by sample id, other sets."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from helpers.evaluations import plain_context, table_split
from paribus.core.build import build
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext
from paribus.core.streams import stream
from paribus.core.sums import Sums
from paribus.data.digits import Digits
from paribus.engine.evaluate import check_method, evaluate
from paribus.evaluators import ood
from paribus.evaluators.ood import OutOfDistribution, auroc, fpr95, score_logits
from paribus.evaluators.out_sets import draw_noise

N, CLASSES = 83, 5
CONTEXT = plain_context(CLASSES)
DIGITS = {"_target_": "paribus.data.digits.Digits"}


class PixelsAsLogits:
    """A method whose logits are some of the pixels, so that they are the same in any batch."""

    def prepare_eval(self) -> None: ...

    def predict(self, inputs: Tensor) -> Tensor:
        flat = inputs.flatten(1)
        return 3 * (flat[:, torch.arange(CLASSES) % flat.shape[1]] * torch.arange(1, CLASSES + 1)).fmod(1.5)


def sums_of(size: int = 64, world: int = 1, **keys: Any) -> tuple[OutOfDistribution, Sums]:
    evaluator = OutOfDistribution(batch_size=size, noise_images=57, **keys)
    total = Sums()
    for rank in range(world):
        splits = {"val": table_split(torch.arange(N) + 2, torch.zeros(N, dtype=torch.int64), CLASSES, rank, world)}
        context = replace(CONTEXT, place=replace(CONTEXT.place, rank=rank, world=world))
        total = total + evaluator(PixelsAsLogits(), splits, context)
    return evaluator, total.all_reduce(lambda value: value)


def found(size: int = 64, world: int = 1, **keys: Any) -> dict[str, float]:
    evaluator, sums = sums_of(size, world, **keys)
    return evaluator.derived(sums, CONTEXT)


def scores(ties: bool) -> tuple[Tensor, Tensor]:
    g = stream(0, "ood", str(ties))
    inside, outside = torch.randn(211, generator=g).double() + 1, torch.randn(135, generator=g).double()
    return ((2 * inside).round(), (2 * outside).round()) if ties else (inside, outside)


def check(inside: Tensor, outside: Tensor, area: Callable[[Tensor, Tensor], float] = auroc) -> None:
    labels = torch.cat((torch.ones(len(inside)), torch.zeros(len(outside)))).long()
    values = torch.cat((inside, outside))
    assert area(inside, outside) == pytest.approx(roc_auc_score(labels, values), abs=1e-12)
    assert area(inside, outside) == pytest.approx(float(binary_auroc((values / 9).sigmoid(), labels)), abs=1e-6)
    false, true, _ = roc_curve(labels, values, drop_intermediate=False)
    assert fpr95(inside, outside) == false[(true >= 0.95).argmax()]


@pytest.mark.parametrize("ties", [False, True])
def test_as_scikit_learn_and_torchmetrics_have_it(ties: bool) -> None:
    inside, outside = scores(ties)
    check(inside, outside)
    check(outside, inside)
    check(inside[:20], outside)  # 19 of 20 are 95 % exactly
    assert auroc(inside, inside) == 0.5


def test_negative_control_ties_not_counted_half_are_seen() -> None:
    def above(inside: Tensor, outside: Tensor) -> float:
        return float((inside[:, None] > outside).double().mean())

    check(*scores(ties=False), area=above)
    with pytest.raises(AssertionError):
        check(*scores(ties=True), area=above)


def test_the_scores_have_the_order_of_maximum_softmax_and_energy() -> None:
    logits = 3 * torch.randn(200, CLASSES, generator=stream(0, "ood.logits"))
    softmax, energy = score_logits(logits).unbind(1)
    assert torch.equal(softmax.argsort(), logits.double().softmax(1).amax(1).argsort())
    torch.testing.assert_close(1 / (1 - softmax), logits.double().softmax(1).amax(1))
    torch.testing.assert_close(energy, logits.double().exp().sum(1).log())
    sure = torch.tensor([[60.0, 0.0], [61.0, 0.0], [0.0, 62.0]])  # of which softmax makes 1 for all three
    assert len(set(sure.double().softmax(1).amax(1).tolist())) == 1
    assert score_logits(sure)[:, 0].argsort().tolist() == [0, 1, 2]


def test_metrics_are_those_of_the_scores_and_their_means() -> None:
    evaluator, sums = sums_of()
    got = evaluator.derived(sums, CONTEXT)
    assert set(got) == set(evaluator.keys)
    for k, score in enumerate(("", "_energy")):
        inside = score_logits(sums.gathered(ood._INSIDE))[:, k]
        each = [score_logits(sums.gathered(name))[:, k] for name in ("uniform", "gaussian")]
        assert [len(inside), *map(len, each)] == [N, 57, 57]
        labels = [1] * N + [0] * 57
        areas = [roc_auc_score(labels, torch.cat((inside, outside))) for outside in each]
        assert got[f"ood/auroc{score}_uniform"] == pytest.approx(areas[0], abs=1e-12)
        assert got[f"ood/auroc{score}"] == pytest.approx(sum(areas) / 2, abs=1e-12)
        assert got[f"ood/fpr95{score}"] == (got[f"ood/fpr95{score}_uniform"] + got[f"ood/fpr95{score}_gaussian"]) / 2


@pytest.mark.parametrize(("size", "world"), [(1, 1), (7, 1), (7, 2), (64, 2), (7, 4), (1, 4)])
def test_equal_to_the_bit_at_any_batch_size_and_over_any_processes(size: int, world: int) -> None:
    assert found(size, world) == found(400)


def test_noise_is_a_function_of_seed_and_id() -> None:
    ids, shape = torch.arange(400), (3, 8, 8)
    for kind in ("uniform", "gaussian"):
        pixels = draw_noise(kind, 0, ids, shape)
        assert torch.equal(pixels[7:9], draw_noise(kind, 0, ids[7:9], shape))
        assert not torch.equal(pixels, draw_noise(kind, 1, ids, shape))
        assert not torch.equal(pixels[0], pixels[1])
        levels = pixels.double() * 255
        assert float((levels - levels.round()).abs().max()) < 1e-4
        assert (pixels.min(), pixels.max()) == (0, 1)
    assert found(seed=1) != found()


def test_the_distributions_of_the_noise() -> None:
    ids, n = torch.arange(400), 400 * 3 * 63  # an odd number of values an image
    even = draw_noise("uniform", 0, ids, (3, 7, 9)).mul(255).round().long().flatten().bincount(minlength=256)
    assert float((even - n / 256).square().sum() / (n / 256)) < 350  # χ² of 255 degrees: 0.01 % are above 348
    bell = draw_noise("gaussian", 0, ids, (3, 7, 9)).flatten()
    for level in (0.25, 0.5, 0.9):
        assert float((bell < level).double().mean()) == pytest.approx(norm.cdf(level - 0.5), abs=5 / math.sqrt(n))
    assert float((bell == 0).double().mean()) == pytest.approx(norm.cdf(-0.5), abs=5 / math.sqrt(n))
    rows = bell.view(400, -1)
    assert abs(float(torch.corrcoef(rows[:, :2].T)[0, 1])) < 0.2
    assert abs(float(torch.corrcoef(rows[:, [0, 95]].T)[0, 1])) < 0.2  # the two that one pair of draws makes


def digits_context(**keys: Any) -> EvaluationContext:
    return replace(plain_context(CLASSES, 1, 8), mean=(0.5,), std=(0.3,), **keys)


def test_another_set_is_normalised_as_the_networks_own_images_are() -> None:
    sets = build({"digits": DIGITS, "few": DIGITS})
    evaluator = OutOfDistribution(noise=(), sets=sets, held_out_classes={"few": ("3", "7")})
    context = digits_context()
    own = Digits()(context.place)
    opened = dict(evaluator._open_sets(context))
    whole = next(iter(own.splits["val"](512)))
    (ids, inputs), *rest = opened["digits"](512)
    assert not rest
    assert torch.equal(ids, whole.ids)
    pixels = whole.inputs * 0.353 + 0.287  # the set's own mean and standard deviation
    torch.testing.assert_close(inputs, (pixels - 0.5) / 0.3)
    assert float((context.to_pixels(inputs) * 255 - (context.to_pixels(inputs) * 255).round()).abs().max()) < 1e-3

    few = torch.cat([ids for ids, _ in opened["few"](100)])
    assert torch.equal(few, whole.ids[(whole.targets == 3) | (whole.targets == 7)])
    assert dict(evaluator._open_sets(context))["digits"] is opened["digits"]  # read once

    findings = evaluate(PixelsAsLogits(), {"ood": evaluator}, {"val": own.splits["val"]}, context)  # type: ignore[arg-type]
    assert set(findings.metrics) == set(evaluator.keys)
    curve = findings.details["ood"]["max_softmax_few"]["curve"]
    assert sum(curve["y"]) == pytest.approx(1)
    assert len(curve["x"]) == len(curve["y"]) == 20


def test_a_set_that_does_not_fit_is_told_before_training() -> None:
    def refused(context: EvaluationContext, **keys: Any) -> str:
        with pytest.raises(ConfigError) as told:
            check_method(PixelsAsLogits(), {"ood": OutOfDistribution(**keys)}, context)
        return str(told.value)

    sets = build({"digits": DIGITS})
    said = refused(CONTEXT, sets=sets)
    assert said.startswith(
        "evaluators.ood.sets.digits: found images of 1×8×8 (channels, height, width); the network's "
    )
    assert "are 3×4×4" in said
    said = refused(digits_context(), sets=sets, held_out_classes={"digits": ("seven",)})
    assert said == "evaluators.ood.sets.digits: has no class seven; it has 0, 1, 2, 3, 4, 5 and 4 more"
    cifar = build({"cifar": {"_target_": "paribus.data.cifar.Cifar", "name": "cifar100", "root": "nowhere"}})
    assert refused(CONTEXT, sets=cifar).startswith("evaluators.ood.sets.cifar: data.root: cifar100 is not there")
    for keys, told in (
        ({"noise": ()}, "noise and sets are empty"),
        ({"noise": ("uniform", "uniform")}, "uniform is there twice"),
        ({"sets": {"energy": Digits()}}, "does not say energy"),
        ({"sets": {"a b": Digits()}}, "found a b"),
        ({"held_out_classes": {"digits": ("1",)}}, "digits is not in sets"),
        ({"sets": {"digits": Digits()}, "held_out_classes": {"digits": ()}}, "names no class"),
    ):
        with pytest.raises(ValueError, match=told):
            OutOfDistribution(**keys)


def test_scores_that_are_nan_are_not_hidden() -> None:
    nan = torch.tensor([0.0, math.nan])
    assert math.isnan(auroc(nan, torch.zeros(3)))
    assert math.isnan(fpr95(torch.zeros(3), nan))
