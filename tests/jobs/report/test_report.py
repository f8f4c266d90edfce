"""A report made of a small sweep's files: what the questions answer, and what the page holds."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.canonical import canonical_json
from ampsweep.errors import DamagedFile, NotFound
from jobs.report.data import NEURONS, ReportData
from jobs.report.page import answers, render
from jobs.report.questions import BEST, MATRIX, OVERLAP, SELF_CROSS
from jobs.schema import SAMPLES, SUMMARY

SPEC = {
    "name": "<small>",
    "model": "tiny",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "ht"], "top_rate": 0.05},
    "interventions": {"op": "set", "factors": [0.5, 2.0], "controls": ["random"]},
    "tasks": [{"name": "lss", "languages": ["en", "fr"]}, {"name": "xcopa", "languages": ["fr", "ht"], "limit": 9}],
    "seed": 4,
}


def row(task: str, metric: str, data: str, target: str | None, factor: float | None, value: float, **more: Any) -> Any:
    shared = dict.fromkeys(SUMMARY.names)
    steered = {"op": "set", "layers": "all", "neurons": 3} if factor is not None else {"neurons": 0}
    own = {"model": "tiny", "task": task, "metric": metric, "data_language": data, "target_language": target}
    return {**shared, **own, "factor": factor, "value": value, "n": 9, **steered, **more}


def summary() -> list[Any]:
    rows = []
    for factor, value in ((0.5, 0.7), (2.0, 0.9)):
        for data, target in (("en", "fr"), ("en", "ht"), ("fr", "ht")):
            rows.append(row("lss", "lss", data, target, factor, value))
            rows.append(row("lss", "lss", data, target, factor, 1.0, selection="random"))
    for target, data, delta in (("fr", "fr", 0.2), ("fr", "ht", -0.1), ("ht", "ht", 0.3), ("ht", "fr", -0.2)):
        bounds = {"delta": delta, "delta_ci_low": delta - 0.05, "delta_ci_high": delta + 0.05, "p_holm": 0.01}
        rows.append(row("xcopa", "accuracy", data, target, 2.0, 0.5 + delta, **bounds))
    return rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    metadata = {
        "ampsweep.sweep_id": "swp_1",
        "ampsweep.spec": canonical_json(SPEC),
        "ampsweep.versions": canonical_json([{"vllm": "0.32.0", "torch": "2.13.0"}]),
        "ampsweep.failed_cells": canonical_json({}),
    }
    sample = dict.fromkeys(SAMPLES.names) | {"doc_id": "0"}
    pq.write_table(pa.Table.from_pylist([sample], schema=SAMPLES.with_metadata(metadata)), tmp_path / "results.parquet")
    pq.write_table(pa.Table.from_pylist(summary(), schema=SUMMARY), tmp_path / "summary.parquet")
    pairs = [("fr", 0, 1), ("fr", 0, 2), ("fr", 1, 5), ("ht", 0, 2)]
    rows = [dict(zip(NEURONS.names, pair, strict=True)) for pair in pairs]
    pq.write_table(pa.Table.from_pylist(rows, schema=NEURONS), tmp_path / "neurons.parquet")
    return tmp_path


@pytest.fixture
def data(folder: Path) -> Iterator[ReportData]:
    with closing(ReportData(folder)) as opened:
        yield opened


def test_the_best_factor_has_the_largest_mean_lss_of_the_languages_own_neurons(data: ReportData) -> None:
    found = data.ask(BEST).to_pylist()
    assert [(best["target_language"], best["factor"], best["languages"]) for best in found] == [
        ("fr", 2.0, 1),
        ("ht", 2.0, 2),
    ]
    matrix = data.ask(MATRIX).to_pylist()
    assert [(cell["row"], cell["column"], cell["value"]) for cell in matrix] == [
        ("en", "fr", 0.9),
        ("en", "ht", 0.9),
        ("fr", "ht", 0.9),
    ]


def test_self_is_the_language_itself_and_cross_the_others(data: ReportData) -> None:
    found = {each["target"]: each for each in data.ask(SELF_CROSS).to_pylist()}
    assert (found["ht"]["self"], found["ht"]["cross"]) == pytest.approx((0.3, -0.2))
    assert (found["fr"]["self"], found["fr"]["cross"]) == pytest.approx((0.2, -0.1))


def test_overlap_is_the_jaccard_index(data: ReportData) -> None:
    found = {(cell["row"], cell["column"]): cell["value"] for cell in data.ask(OVERLAP).to_pylist()}
    assert found == pytest.approx({("fr", "fr"): 1, ("fr", "ht"): 1 / 3, ("ht", "fr"): 1 / 3, ("ht", "ht"): 1})


def test_the_page_stands_alone_and_shows_every_answer_with_its_query(data: ReportData) -> None:
    found = list(answers(data))
    assert {each.question.key for each in found} == {
        "best_factor",
        "lss_matrix",
        "factor_curves",
        "self_cross",
        "resources",
        "neurons_by_layer",
        "overlap",
    }
    page = render(data, found)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page), "nothing is fetched from anywhere"
    assert "<script" not in page
    assert "<h1>&lt;small&gt;</h1>" in page
    assert "vllm 0.32.0" in page
    assert "seed 4" in page.lower()
    for each in found:
        assert f'download="{each.question.key}.csv"' in page
        if each.figure is not None:
            ElementTree.fromstring(each.figure)  # our own


def test_the_same_files_give_the_same_page(folder: Path) -> None:
    pages = []
    for _ in range(2):
        with closing(ReportData(folder)) as data:
            pages.append(render(data, list(answers(data))))
    assert pages[0] == pages[1]


def test_tables_are_the_answers(data: ReportData) -> None:
    best = next(each for each in answers(data) if each.question.key == "best_factor")
    rows = list(csv.DictReader(io.StringIO(best.csv)))
    assert [(line["target_language"], float(line["factor"])) for line in rows] == [("fr", 2.0), ("ht", 2.0)]
    assert r"fr & set &  &  & all & 2.000 & 0.900 & 1 \\" in best.latex
    assert r"target language & op" in best.latex


def test_languages_that_count_as_low_resource_can_be_named(folder: Path) -> None:
    with closing(ReportData(folder, low_resource={"fr"})) as data:
        resources = next(each for each in answers(data) if each.question.key == "resources")
    own = [line for line in resources.table.to_pylist() if line["panel"] == "xcopa: accuracy"]
    assert {line["label"]: round(line["y"], 9) for line in own} == {"low-resource": 0.2, "high-resource": 0.3}


def test_without_neurons_the_page_says_so(folder: Path) -> None:
    (folder / "neurons.parquet").unlink()
    with closing(ReportData(folder)) as data:
        found = list(answers(data))
        assert "has no neurons.parquet" in render(data, found)
    assert {"neurons_by_layer", "overlap"}.isdisjoint(each.question.key for each in found)


def test_what_is_missing_or_damaged_is_named(folder: Path) -> None:
    (folder / "summary.parquet").write_bytes(b"PAR1")
    with pytest.raises(DamagedFile, match=r"summary\.parquet"):
        ReportData(folder)
    (folder / "summary.parquet").unlink()
    with pytest.raises(NotFound, match=r"no summary\.parquet"):
        ReportData(folder)
