"""Exact evaluation: every sample once, integer sums over batches and ranks, one division at the end."""

from collections.abc import Callable, Iterable, Mapping

from paribus.core.batch import Batch
from paribus.core.protocols import Evaluator, HasEma, Method
from paribus.core.sums import Sums
from paribus.engine.distributed import all_sum

WITHOUT_EMA = "_without_ema"  # after the name of a metric: of the latest weights, beside the average's


def evaluate(
    method: Method, evaluators: Iterable[Evaluator], splits: Mapping[str, Callable[[int], Iterable[Batch]]]
) -> dict[str, float]:
    """Every evaluator's metrics over all ranks' shares of the splits; for a method with averaged weights those of the
    latest weights too, named with WITHOUT_EMA."""
    method.prepare_eval()
    plain = method.without_ema if isinstance(method, HasEma) else None
    sums = Sums()
    for evaluator in evaluators:
        sums = sums + evaluator(method, splits)
        if plain is not None:
            sums = sums + evaluator(plain, splits).with_suffix(WITHOUT_EMA)
    return sums.all_reduce(all_sum).means()
