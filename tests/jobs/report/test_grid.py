"""Tables for readers: what is shown, merged, rounded and left out."""

from __future__ import annotations

import pyarrow as pa

from jobs.report.grid import Grid, grid_of, plain_grid
from jobs.report.prose.wording import amount, between, signed


def shown(grid: Grid) -> list[dict[str, str]]:
    heads = [column.head for column in grid.columns]
    return [dict(zip(heads, (cell.text for cell in row), strict=True)) for row in grid.rows]


def test_a_value_and_its_interval_are_one_column() -> None:
    table = pa.table({"lss": [0.9, 0.25, None], "lss_low": [0.85, None, None], "delta_ci_low": [-0.1, 0.0, None]})
    table = table.append_column("lss_high", pa.array([1.0, None, None]))
    table = table.append_column("delta_ci_high", pa.array([0.2, 0.00012, None]))
    grid = grid_of(table)
    assert shown(grid) == [
        {"lss": "0.900 (0.850 to 1.000)", "interval of delta": "-0.100 to 0.200"},
        {"lss": "0.250", "interval of delta": "0.000 to 1.2e-04"},
        {"lss": "", "interval of delta": ""},
    ]
    assert [row[0].number for row in grid.rows] == [0.9, 0.25, None], "sorted by the value, not by its text"


def test_what_is_the_same_in_every_row_is_named_once() -> None:
    table = pa.table({"task_options": ["n = 9", "n = 9"], "target": ["fr", "ja"], "n": [3, 3], "none": pa.nulls(2)})
    grid = grid_of(table)
    assert grid.constants == (("task options", "n = 9"),)
    assert [(column.head, column.is_number) for column in grid.columns] == [("target", False), ("n", True)]
    assert grid_of(table.slice(0, 1)).constants == (), "a table of one row shows all"


def test_a_factor_is_written_as_in_the_spec() -> None:
    assert shown(grid_of(pa.table({"factor": [0.5, 2.0], "lss": [0.5, 2.0]}))) == [
        {"factor": "0.5", "lss": "0.500"},
        {"factor": "2", "lss": "2.000"},
    ]


def test_zero_has_no_sign() -> None:
    assert shown(grid_of(pa.table({"delta": [-0.0, 0.0]}))) == [{"delta": "0.000"}] * 2
    assert (amount(-0.0), signed(-0.0), between([-0.0, 0.0])) == ("0.00", "0.00", "0.00")


def test_rows_that_do_not_fit_are_counted() -> None:
    grid = grid_of(pa.table({"n": [1, 2, 3]}), max_rows=2)
    assert (len(grid.rows), grid.left_out) == (2, 1)


def test_texts_stay_as_they_are() -> None:
    assert shown(plain_grid(("a_b", "c"), [("0.5", "")])) == [{"a_b": "0.5", "c": ""}]
