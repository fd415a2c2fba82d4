"""Rows for a person at a Python prompt: dicts, shown as a table in a notebook, and as pandas' frame on request.

pandas is not among paribus's requirements. It is imported only by `Rows.frame`.
"""

from html import escape
from typing import Any


class Rows(list[dict[str, Any]]):
    """Rows, each a dict of column -> value; a row lacks the columns that it has no value for."""

    @property
    def columns(self) -> list[str]:
        """Of all rows, in the order of their first appearance."""
        return list(dict.fromkeys(key for row in self for key in row))

    def frame(self) -> Any:
        """A pandas.DataFrame, with NaN where a row lacks a column; where pandas is not installed, the rows as they
        are."""
        try:
            import pandas
        except ImportError:
            return list(self)
        return pandas.DataFrame(list(self), columns=self.columns)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_format(row.get(name)))}</td>' for name in self.columns)}</tr>" for row in self
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _format(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
