"""The summary of a sweep as it is printed: a line for each way to edit."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.cli.terminal.summary import show_summary
from jobs.results.schema import SUMMARY
from jobs.results.summary import best_factors


def row(factor: float, value: float, **columns: Any) -> dict[str, Any]:
    shared = {"model": "tiny", "task": "xcopa", "mode": "corrected", "metric": "accuracy", "data_language": "fr"}
    steered = {"method": "neurons", "target_language": "fr", "op": "set", "patch": "max", "layers": "all", "neurons": 4}
    values = {"n": 40, "higher_is_better": True, "factor": factor, "value": value}
    return {**dict.fromkeys(SUMMARY.names), **shared, **steered, **values, **columns}


def test_every_choice_of_tokens_has_a_line_with_its_best_factor(capsys: pytest.CaptureFixture[str]) -> None:
    choices: list[dict[str, str]] = [{}, {"tokens": "end=8"}, {"when": "drift", "part": "answer"}]
    rows = [
        row(factor, value, **columns)
        for columns, values in zip(choices, ((0.1, 0.2), (0.4, 0.3), (0.5, 0.6)), strict=True)
        for factor, value in zip((1.0, 2.0), values, strict=True)
    ]
    show_summary(rows, best_factors(rows, "accuracy"))
    _title, factors, *lines = capsys.readouterr().out.splitlines()
    assert factors.split() == ["x", "1", "x", "2"]
    assert [" ".join(line.split()) for line in lines] == [
        "fr set max 0.100 0.200 best x 2",
        "fr set max tokens end=8 0.400 0.300 best x 1",
        "fr set max when drift part answer 0.500 0.600 best x 2",
    ]


def test_rows_of_servers_without_these_columns_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{name: value for name, value in row(2.0, 0.5).items() if name not in ("tokens", "when", "part")}]
    show_summary(rows, [])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["fr", "set", "max", "0.500"]
