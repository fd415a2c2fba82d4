"""An evaluation waits for the device once a split at most, however many batches it has."""

from collections import Counter

import pytest

from fake_cuda.cases import parse
from fake_cuda.hooks import why_not_here
from fake_cuda.steps import measure_evaluation

CASES = [
    "cifar10_resnet18 baseline",
    "cifar10_resnet18 baseline ema.decay=0.9",  # which evaluates twice
    "imagenette_vit_s baseline data.keep=host",  # packed
    "imagenet_resnet18_sgd baseline",  # decoded
]

pytestmark = pytest.mark.skipif(why_not_here() is not None, reason=str(why_not_here()))


@pytest.mark.parametrize("text", CASES)
def test_an_evaluation_waits_once_a_split(text: str) -> None:
    count, splits = measure_evaluation(parse(text), "evaluators.accuracy.batch_size=8")  # 20 images are three batches
    assert len(count.waits) <= splits, Counter(count.waits)
