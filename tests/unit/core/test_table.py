"""Rows at a Python prompt: dicts, a frame where pandas is there, HTML in a notebook."""

import math
import sys

import pytest

from paribus.core.table import Rows

ROWS = Rows([{"run": "a<b", "acc": 0.5}, {"run": "c", "loss": 2.0}])


def test_rows_are_dicts_and_columns_those_of_all_rows() -> None:
    assert ROWS[0] == {"run": "a<b", "acc": 0.5}
    assert ROWS.columns == ["run", "acc", "loss"]


def test_a_frame_has_every_row_and_column() -> None:
    pandas = pytest.importorskip("pandas")
    frame = ROWS.frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ROWS.columns
    assert frame["acc"][0] == 0.5
    assert math.isnan(frame["acc"][1])
    assert list(Rows().frame().columns) == []


def test_without_pandas_a_frame_is_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert ROWS.frame() == [{"run": "a<b", "acc": 0.5}, {"run": "c", "loss": 2.0}]
    assert type(ROWS.frame()) is list


def test_a_notebook_shows_a_table() -> None:
    page = ROWS._repr_html_()
    assert page.count("<tr>") == 3
    assert "<td>a&lt;b</td><td>0.5</td><td></td>" in page
