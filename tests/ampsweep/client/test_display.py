"""What a notebook shows of sweeps and summaries."""

from __future__ import annotations

from xml.etree import ElementTree

from ampsweep.client.display import rows_table
from ampsweep.client.models import RequestCounts, SummaryDict, Sweep, SweepError


def texts(html: str) -> list[str]:
    """Return the texts of the cells; the tables are well-formed."""
    root = ElementTree.fromstring(f"<div>{html}</div>")  # our own
    return [cell.text or "" for cell in root.iter() if cell.tag in ("td", "th", "p")]


def test_a_sweep_shows_its_state_and_what_failed() -> None:
    sweep = Sweep(
        id="swp_1",
        name="<first>",
        status="completed",
        spec={"model": "atlas"},
        request_counts=RequestCounts(total=1200, completed=1198, failed=2, reused=40),
        created_at=0.0,
        samples=9000,
        errors=(SweepError(code="completed_with_failures", message="2 cells failed"),),
    )
    shown = texts(sweep._repr_html_())
    assert shown == [
        *("sweep", "<first>", "id", "swp_1", "model", "atlas", "status", "completed"),
        *("cells", "1,198 of 1,200 completed, 40 of them reused", "failed cells", "2", "samples", "9,000"),
        *("errors", "2 cells failed"),
    ]


def test_a_summary_shows_its_best_factors_and_first_rows_and_stays_a_dict() -> None:
    rows = [{"metric": "lss", "value": 0.123456, "note": None, "n": number} for number in range(25)]
    summary = SummaryDict({"rows": rows, "best_factors": [{"target_language": "fr", "factor": 2.0}]})
    assert summary["rows"] == rows
    shown = texts(summary._repr_html_())
    assert shown[:8] == ["best_factors", "target_language", "factor", "fr", "2", "rows", "metric", "value"]
    assert "note" not in shown, "no row has one"
    assert shown.count("0.1235") == 20
    assert shown[-1] == "5 more rows"
    partial = SummaryDict({"partial": {"included": 3, "total": 9}, "rows": [], "best_factors": []})
    assert texts(partial._repr_html_())[0] == "Partial: 3 of 9 cells"


def test_rows_may_lack_columns_of_others() -> None:
    shown = texts(rows_table([{"a": 1}, {"a": 2, "b": True}], limit=9))
    assert shown == ["a", "b", "1", "", "2", "True"]
