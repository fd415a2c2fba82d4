"""Average precision over pixels: scikit-learn is the oracle; ties, empty masks, what is refused."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.evaluation import EvaluationContext
from paribus.core.protocols import DeviceContext, Spec
from paribus.core.sums import gather_samples
from paribus.engine.evaluate import evaluate
from paribus.evaluators.maps import normalise_maps
from paribus.evaluators.pixel_ap import PixelAP, average_precision
from paribus.methods.evaluated import PlainNetwork


@pytest.mark.parametrize("levels", [2, 5, 1_000_000])
def test_it_is_scikit_learns(levels: int) -> None:
    """levels: how many values there are, so with few of them nearly all pixels tie."""
    random = np.random.default_rng(levels)
    for n in (1, 7, 500):
        scores = random.integers(0, levels, n) / levels
        there = random.random(n) < 0.3
        there[0] = True
        assert average_precision(scores, there) == pytest.approx(average_precision_score(there, scores), abs=1e-12)


def test_negative_control_ties_in_the_order_of_pixels_are_something_else() -> None:
    scores, there = np.zeros(10), np.arange(10) < 3
    ranked_as_they_lie = np.mean([1.0, 1.0, 1.0])
    assert average_precision(scores, there) == pytest.approx(0.3)
    assert average_precision(scores, there) != ranked_as_they_lie


def test_order_alone_counts_and_no_object_has_no_value() -> None:
    scores, there = np.array([0.1, 0.9, 0.4, 0.3]), np.array([False, True, False, True])
    assert average_precision(scores, there) == average_precision(10 * scores**3 - 5, there)
    assert average_precision(there.astype(float), there) == 1
    assert np.isnan(average_precision(scores, np.zeros(4, bool)))


class Mapped(nn.Module):
    """Its map is every other pixel of the input, and that of class 1 the same reversed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, 0, 0, :2] * self.weight

    def attribute(self, inputs: Tensor, classes: Tensor) -> Tensor:
        return inputs[:, 0, ::2, ::2] * (1 - 2 * classes)[:, None, None]


class Method(PlainNetwork):
    def prepare_eval(self) -> None: ...


INPUTS = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
MASKS = torch.rand(9, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.2
TARGETS = torch.arange(9) % 2


def split(batch_size: int) -> Iterator[Batch]:
    for ids in torch.arange(9).split(batch_size):
        yield Batch(INPUTS[ids], TARGETS[ids], ids, ids, len(ids), 2, also={"mask": MASKS[ids]})


CONTEXT = EvaluationContext(Spec(2, 1, 8, 8), DeviceContext(torch.device("cpu")), (0.0,), (1.0,))


def measure(of: str, batch_size: int = 4) -> dict[str, float]:
    evaluators = {"pixel_ap": PixelAP(of=of, batch_size=batch_size)}  # type: ignore[arg-type]
    return evaluate(Method(Mapped()), evaluators, {"val": split}, CONTEXT).metrics  # type: ignore[arg-type]


@pytest.mark.parametrize("of", ["predicted", "true"])
def test_both_metrics_are_those_of_the_maps_at_the_inputs_size(of: str) -> None:
    classes = TARGETS if of == "true" else INPUTS[:, 0, 0, :2].argmax(1)
    maps = normalise_maps(INPUTS[:, 0, ::2, ::2] * (1 - 2 * classes)[:, None, None], (8, 8))
    found = measure(of)
    assert found["val/pixel_ap"] == pytest.approx(average_precision_score(MASKS.flatten(), maps.flatten()), abs=1e-12)
    each = [average_precision_score(mask.flatten(), m.flatten()) for mask, m in zip(MASKS, maps, strict=True)]
    assert found["val/image_ap"] == pytest.approx(np.mean(each), abs=1e-12)
    assert found == measure(of, batch_size=9)
    assert found != measure("predicted" if of == "true" else "true")


def test_maps_of_a_network_that_fell_apart_have_no_order() -> None:
    sums = gather_samples("maps", torch.arange(9), torch.full((9, 8, 8), float("nan")))
    sums += gather_samples("masks", torch.arange(9), MASKS)
    with pytest.raises(RunFailed, match="the maps of val are NaN"):
        PixelAP().derived(sums.all_reduce(lambda value: value), CONTEXT)


def test_data_without_masks_and_networks_without_maps_are_refused() -> None:
    with pytest.raises(ConfigError, match="whose samples have no mask"):
        PixelAP().check_data(SimpleNamespace(facts={"val": ("box",)}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"evaluators.pixel_ap: .* global average pool"):
        PixelAP().check_method(Method(nn.Sequential(nn.Flatten(), nn.Linear(64, 2))), CONTEXT)
