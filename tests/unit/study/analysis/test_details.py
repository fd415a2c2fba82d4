"""Curves and tables of evaluators: their forms, and the mean and band over seeds."""

import math
import statistics
from typing import Any

import pytest

from paribus.core.errors import ConfigError
from paribus.study.analysis.details import Curve, Matrix, Panel, Reliability, build_panels, parse_detail


def curve(y: list[Any], x: list[float] | None = None) -> dict[str, Any]:
    return {"curve": {"x": x or [0, 1, 2], "y": y, "x_label": "side", "y_label": "accuracy"}}


def diagram(accuracy: list[Any], counts: list[int]) -> dict[str, Any]:
    confidence = [None if n == 0 else (i + 0.5) / len(counts) for i, n in enumerate(counts)]
    return {"reliability": {"counts": counts, "accuracy": accuracy, "confidence": confidence}}


def test_each_form_is_read() -> None:
    found = parse_detail(curve([1, None, 0.5]), "x")
    assert isinstance(found, Curve)
    assert (found.x, found.y[0], math.isnan(found.y[1]), found.x_label) == ((0, 1, 2), 1.0, True, "side")
    assert isinstance(parse_detail(diagram([0.5, None], [3, 0]), "x"), Reliability)
    assert parse_detail({"matrix": {"rows": [[1, 2], [3, 4]]}}, "x") == Matrix(((1, 2), (3, 4)), ())
    assert parse_detail({"matrix": {"rows": [[1]], "labels": ["cat"]}}, "x") == Matrix(((1,),), ("cat",))


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"curves": {}}, "x: found curves; should be one of curve, reliability, matrix"),
        ({}, "x: found nothing; should be one of"),
        ([1], r"x: found '\[1\]'|x: found \[1\]; should be one of"),
        ({"matrix": [[1]]}, r"x.matrix: found \[\[1\]\]; should be a mapping"),
        (curve([1, 2]), "x.curve: found 3 x, 2 y; should be as many of each"),
        (curve([1, 2, "3"]), "x.curve.y: found '3'; should be a number, or null"),
        (curve([1, 2, True]), "x.curve.y: found True; should be a number"),
        (curve([1, 2, 3], [0, 2, 1]), "x.curve.x: found .*; should be ascending"),
        ({"curve": {"x": [1]}}, "x.curve.y: found None; should be a list of numbers"),
        ({"matrix": {"rows": [[1], [1, 2]]}}, "x.matrix.rows: found rows of different lengths"),
        ({"matrix": {"rows": 3}}, "x.matrix.rows: found 3; should be a list of rows"),
    ],
)
def test_what_has_no_form_is_refused_by_name(node: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_detail(node, "x")


def one_panel(arms: dict[str, list[dict[str, Any]]]) -> Panel:
    (panel,) = build_panels(
        {arm: {seed: {"tool": {"shape": node}} for seed, node in enumerate(nodes)} for arm, nodes in arms.items()}
    )
    return panel


def test_a_curve_is_the_mean_over_seeds_with_one_standard_deviation() -> None:
    ys = [[0.9, 0.5, 0.1], [0.8, 0.6, 0.3], [0.85, 0.4, 0.2]]
    panel = one_panel({"a": [curve(y) for y in ys], "b": [curve(ys[0])]})
    assert (panel.key, panel.x_label, panel.y_label, panel.diagonal) == ("tool: shape", "side", "accuracy", False)
    columns = list(zip(*ys, strict=True))
    means, sds = [statistics.mean(c) for c in columns], [statistics.stdev(c) for c in columns]
    band = panel.bands["a"]
    assert band.mean == pytest.approx(means)
    assert band.low == pytest.approx([m - s for m, s in zip(means, sds, strict=True)])
    assert band.high == pytest.approx([m + s for m, s in zip(means, sds, strict=True)])
    assert panel.bands["b"].low == panel.bands["b"].mean == (0.9, 0.5, 0.1)
    with pytest.raises(AssertionError):  # negative control: the population's standard deviation
        assert band.low == pytest.approx([m - statistics.pstdev(c) for m, c in zip(means, columns, strict=True)])


def test_a_diagram_has_the_bins_that_every_run_fills() -> None:
    panel = one_panel({"a": [diagram([0.1, 0.4, 0.9], [2, 3, 4]), diagram([None, 0.6, 0.7], [0, 5, 4])]})
    band = panel.bands["a"]
    assert panel.diagonal
    assert band.steps == pytest.approx((0.5, 5 / 6))
    assert band.mean == pytest.approx((0.5, 0.8))


def test_matrices_and_unknown_forms_have_no_panel() -> None:
    nodes = {"confusion": {"matrix": {"rows": [[1]]}}, "own": {"text": "hello"}}
    assert build_panels({"a": {0: {"tool": nodes}}}) == ()
    assert build_panels({}) == ()
