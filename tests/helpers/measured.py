"""Measures of runs that never were (helpers/reports.py makes their rows): a score, an error, curves and a diagram."""

import random
from collections.abc import Iterable
from typing import Any

from paribus.study.measures import Measure, hash_metrics
from paribus.study.rows import Row
from paribus.study.secondary import parse_secondary
from paribus.study.spec import SecondaryMetric

ASKED: tuple[SecondaryMetric, ...] = parse_secondary(
    (
        {"metric": "val/ece", "higher_is_better": False, "unit": "points", "smallest_effect": "1pt"},
        {"metric": "ood/auroc", "higher_is_better": True},
        {"metric": "weights/norm", "higher_is_better": None, "smallest_effect": 0.5},
    )
)
SIDES = (0, 4, 8, 12, 16)


def measures_of(row: Row, ece: float = 0.08, **changes: Any) -> Measure:
    """What was found on the weights of a row. ece: about where its calibration error lies."""
    own = random.Random(f"measured {row.cell}")
    error = ece + 0.003 * own.gauss(0, 1)
    confidence = [0.15 + 0.2 * i for i in range(5)]
    details = {
        "reliability": {
            "reliability": {
                "counts": [0, 40, 160, 300, 500],
                "accuracy": [None, *(max(0.0, c - error * 3 * c + 0.01 * own.gauss(0, 1)) for c in confidence[1:])],
                "confidence": [None, *confidence[1:]],
            }
        },
        "occlusion": {
            "curve": {
                "x": list(SIDES),
                "y": [row.metrics["val/acc1"] * (1 - s / 18) + 0.01 * own.gauss(0, 1) for s in SIDES],
                "x_label": "side of the square (pixels)",
                "y_label": "accuracy",
            }
        },
        "confusion": {"matrix": {"rows": [[3, 1], [0, 4]]}},
    }
    values: dict[str, Any] = {
        "id": row.id,
        "arm": row.arm,
        "seed": row.seed,
        "row": hash_metrics(row.metrics),
        "weights": {"model": f"{row.cell}"},
        "evaluator": "many",
        "config": {"_target_": "lab.Many", "bins": 15, "batch_size": 512},
        "metrics": {"val/ece": error, "ood/auroc": 0.9 + 0.01 * own.gauss(0, 1), "weights/norm": 30 + own.gauss(0, 1)},
        "details": details,
        "fingerprint": {"torch": "2.15.0"},
        "versions": {"pillow": "13.0.0"},
        "seconds": 1.5,
        "time": "2026-11-29T04:00:00+00:00",
    }
    return Measure(**{**values, **changes})


def measures_for(rows: Iterable[Row], levels: dict[str, float]) -> list[Measure]:
    """levels: arm -> calibration error."""
    return [measures_of(row, levels[row.arm]) for row in rows]
