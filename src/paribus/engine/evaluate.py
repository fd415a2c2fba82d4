"""Exact evaluation: every sample once, integer sums over batches and ranks, one division at the end.

Several evaluators on one split cost one pass of the network over it (shared_predictions.py).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from paribus.core.capabilities import ask_for
from paribus.core.evaluation import (
    ChecksMethod,
    Derives,
    EvaluationContext,
    Findings,
    HasDetails,
    Splits,
    call_evaluator,
)
from paribus.core.protocols import HasEma, Method
from paribus.core.sums import Sums
from paribus.engine.distributed import all_sum, gather_rows
from paribus.engine.shared_predictions import SharedPredictions

WITHOUT_EMA = "_without_ema"  # after the name of a metric: of the latest weights, beside the average's


def check_method(method: Any, evaluators: Mapping[str, Any], context: EvaluationContext) -> None:
    """Raises ConfigError if an evaluator asks for what the method does not have: before training, not after it."""
    for name, evaluator in evaluators.items():
        for capability in getattr(evaluator, "needs", ()):
            ask_for(method, capability, f"evaluators.{name}")
        if isinstance(evaluator, ChecksMethod):
            evaluator.check_method(method, context)


def evaluate(
    method: Method,
    evaluators: Mapping[str, Any],
    splits: Splits,
    context: EvaluationContext,
    at_end: bool = True,
) -> Findings:
    """Every evaluator's metrics over all ranks' shares of the splits, by the evaluators' names.

    at_end: whether this is the last evaluation, which those with `at="end"` wait for. For a method with averaged
    weights the others' metrics of the latest weights too, named with WITHOUT_EMA.
    """
    method.prepare_eval()
    context = replace(context, gather=gather_rows)
    chosen = {name: e for name, e in evaluators.items() if at_end or not _is_late(e)}
    main, latest = method, method.without_ema if isinstance(method, HasEma) else None
    if len(chosen) > 1:
        shared = SharedPredictions()
        splits, main, latest = shared.follow(splits), shared.share(main), shared.share(latest)
    means, findings = Sums(), Findings({})
    for name, evaluator in chosen.items():
        for network, suffix in ((main, ""), (None if _is_late(evaluator) else latest, WITHOUT_EMA)):
            if network is None:
                continue
            sums = call_evaluator(evaluator, network, splits, context)
            if isinstance(evaluator, Derives | HasDetails):
                _finish(name, evaluator, sums, suffix, context, findings)
            else:  # together, so that the host waits once
                means = means + sums.with_suffix(suffix)
    return Findings(means.all_reduce(all_sum, gather_rows).means() | findings.metrics, findings.details)


def _is_late(evaluator: Any) -> bool:
    return getattr(evaluator, "at", "always") == "end"


def _finish(name: str, evaluator: Any, sums: Sums, suffix: str, context: EvaluationContext, findings: Findings) -> None:
    """Add to the findings what an evaluator makes of its own sums over all ranks."""
    total = sums.all_reduce(all_sum, gather_rows)
    metrics = total.means()
    if isinstance(evaluator, Derives):
        metrics |= evaluator.derived(total, context)
    findings.metrics.update({key + suffix: value for key, value in metrics.items()})
    if isinstance(evaluator, HasDetails) and not suffix:
        findings.details[name] = evaluator.details(total, context)
