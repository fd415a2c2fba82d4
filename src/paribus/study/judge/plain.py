"""A verdict for other programs, as JSON types."""

from collections.abc import Mapping, Sequence
from typing import Any

from paribus.study.judge.examples import list_outcomes
from paribus.study.judge.judged import Judged
from paribus.study.judge.report import bootstrap, resample
from paribus.study.report.conditions import GateCheck
from paribus.study.report.model import Report
from paribus.study.stats import to_plain

SCHEMA = 1


def build_json(judged: Judged, report: Report, found: Sequence[GateCheck], code: int) -> dict[str, Any]:
    """For other programs; null is "undefined". Its schema is in docs/judging.md."""
    metric = judged.metric
    return {
        "schema": SCHEMA,
        "asked": {
            "file": judged.name,
            "kind": judged.kind,
            "metric": metric.name,
            "in_percent": metric.in_percent,
            "higher_is_better": metric.higher_is_better,
            "margin": judged.rule.margin,
            "against": judged.baseline,
            "test": judged.test,
            "columns": judged.columns,
        },
        "arms": _plain_arms(judged),
        "comparisons": _plain_comparisons(judged, report),
        "missing": list(judged.missing),
        "failed": list(judged.failed),
        "cautions": list(report.cautions),
        "remarks": list(report.remarks),
        "gate": to_plain(list(found)) if found else None,
        "exit_code": code,
    }


def _plain_arms(judged: Judged) -> dict[str, Mapping[str, Any]]:
    return {name: to_plain({"n": arm.n, "mean": arm.mean, "sd": arm.sd}) for name, arm in judged.arms.items()}


def _plain_comparisons(judged: Judged, report: Report) -> list[dict[str, Any]]:
    outcomes = list_outcomes(judged.outcomes) or [None] * len(judged.comparisons)
    intervals = bootstrap(judged) if judged.outcomes else [None] * len(judged.comparisons)
    counted = judged.counted
    return [
        {
            "arm": c.arm,
            "against": c.baseline,
            "verdict": c.judgement.verdict.value,
            "words": c.judgement.describe(counted.one, counted.many),
            "said": sentence.said,
            "numbers": sentence.numbers,
            "paired": c.paired,
            "counted": counted.many,
            "more": c.judgement.more_seeds,
            "p_difference": to_plain(c.judgement.p_zero),
            "p_equivalence": to_plain(c.judgement.p_beyond),
            "minimum_detectable": to_plain(c.judgement.minimum_detectable),
            "estimate": to_plain(c.estimate),
            "outcomes": counts,
            "bootstrap": to_plain(interval),
            "robustness": to_plain(resampled),
        }
        for c, sentence, counts, interval, resampled in zip(
            judged.comparisons, report.verdicts, outcomes, intervals, resample(judged), strict=True
        )
    ]
