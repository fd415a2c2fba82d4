"""The section of a report about the length of weights, for studies whose runs logged it (method=lengths)."""

from paribus.core.formatting import format_quantity
from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.curves import Band
from paribus.study.report.model import Section, Table
from paribus.study.report.wording import Unit

KEYS = ("weights/norm", "weights/step")


def build_weights(a: Analysis, unit: Unit) -> Section | None:
    norms, steps = (a.curves.get(key, {}) for key in KEYS)
    rows = tuple(
        (
            arm,
            *(format_quantity(mean_at(norm, share)) for share in (0, 0.5, 1)),
            *(format_quantity(mean_at(steps[arm], share)) for share in (0, 0.5)),
        )
        for arm, norm in norms.items()
        if arm in steps
    )
    if not rows:
        return None
    notes = (
        "Means over convolutions and seeds. ‖w‖ is the length of a weight, ‖Δw‖ / ‖w‖ the effective step: where "
        "normalisation follows, only a weight's direction counts, so a longer weight is turned less by the same step. "
        "Each number is the mean since the log line before it.",
    )
    head = ("arm", "‖w‖ first", "half-way", "last", "‖Δw‖ / ‖w‖ first", "half-way")
    return Section(
        "weights", "Length of the weights", notes, (Table(head, rows),), tuple(f"curve {key}" for key in KEYS)
    )


def mean_at(band: Band, share: float) -> float:
    """The mean at the point nearest to this share of the last step: 0 the first, 1 the last."""
    nearest = min(range(len(band.steps)), key=lambda i: abs(band.steps[i] - share * band.steps[-1]))
    return band.mean[nearest]
