"""Exact evaluation: every sample once, integer sums over batches and ranks, one division at the end."""

from collections.abc import Callable, Iterable, Mapping

from paribus.core.batch import Batch
from paribus.core.protocols import Evaluator, Method
from paribus.core.sums import Sums
from paribus.engine.distributed import all_sum


def evaluate(
    method: Method, evaluators: Iterable[Evaluator], splits: Mapping[str, Callable[[int], Iterable[Batch]]]
) -> dict[str, float]:
    """Every evaluator's metrics over all ranks' shares of the splits."""
    method.prepare_eval()
    sums = Sums()
    for evaluator in evaluators:
        sums = sums + evaluator(method, splits)
    return sums.all_reduce(all_sum).means()
