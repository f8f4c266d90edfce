"""The report as a notebook: its cells compute what they show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.report.answers import Answer
from jobs.report.document import Document
from jobs.report.writers.notebook import Source, to_notebook
from tests.jobs.report.control_sweep import control_summary, write_sweep


def cells(document: Document, source: Source) -> list[dict[str, Any]]:
    content = json.loads(to_notebook(document, source))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    return list(content["cells"])


def run(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Run the code cells; return the names that they define."""
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    return names


def test_cells_are_those_of_a_valid_notebook(document: Document) -> None:
    notebook = cells(document, Source(sweep="study"))
    assert len({cell["id"] for cell in notebook}) == len(notebook)
    for cell in notebook:
        is_code = cell["cell_type"] == "code"
        required = {"cell_type", "id", "metadata", "source"}
        assert set(cell) == (required | {"outputs", "execution_count"} if is_code else required)
        assert 1 <= len(cell["id"]) <= 64
        assert cell["id"].replace("-", "").isalnum()
    shown = [kind for cell in notebook for output in cell.get("outputs", ()) for kind in output["data"]]
    assert shown == ["text/html", "text/html", "image/svg+xml"]


def test_the_cells_of_the_notebook_compute_the_report(document: Document, tmp_path: Path) -> None:
    write_sweep(tmp_path, control_summary(("fr", "ja")))
    names = run(cells(document, Source(sweep=str(tmp_path), low_resource=["ht"])))
    assert isinstance(names["summary"], pd.DataFrame)
    for answer in document.answers:
        computed = names[answer.question.key]
        assert isinstance(computed, Answer)
        assert computed.table.equals(answer.table)
        assert computed._repr_svg_() == answer._repr_svg_()
    names["data"].close()


@pytest.mark.parametrize("partial", [True, False])
def test_a_sweep_of_a_server_is_downloaded_first(
    partial: bool, document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, bool]] = []

    class Client:
        def __init__(self, url: str) -> None:
            assert url == "http://host:1"

        def download(self, sweep: str, path: Path, partial: bool = False) -> None:
            calls.append((sweep, partial))
            write_sweep(path.parent, control_summary(("fr", "ja")))

        def download_summary(self, sweep: str, path: Path, partial: bool = False) -> None:
            calls.append((sweep, partial))

    monkeypatch.setattr("ampsweep.Client", Client)
    names = run(cells(document, Source(sweep="swp_1", server="http://host:1", partial=partial)))
    assert calls == [("swp_1", partial)] * 2
    assert names["self_cross"].table.num_rows
    names["data"].close()
