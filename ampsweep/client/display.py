"""HTML tables that notebooks display for sweeps and summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_LEFT = 'style="text-align: left"'


def fields_table(fields: Mapping[str, Any]) -> str:
    """Return an object as an HTML table with one row for each field that has a value."""
    rows = [
        f"<tr><th {_LEFT}>{escape(name)}</th><td {_LEFT}>{escape(str(value))}</td></tr>"
        for name, value in fields.items()
        if value not in (None, "", ())
    ]
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def rows_table(rows: Sequence[Mapping[str, Any]], *, limit: int) -> str:
    """Return objects as an HTML table with one row each. Columns without any value are left out.

    Args:
        rows: The objects.
        limit: The number of rows to show; a line below the table counts the others.
    """
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_text(row.get(name)))}</td>' for name in names)}</tr>" for row in rows[:limit]
    )
    more = f"<p>{len(rows) - limit} more rows</p>" if len(rows) > limit else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
