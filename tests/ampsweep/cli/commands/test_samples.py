"""`ampsweep samples`: a few items with what the model answered to them under each intervention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ampsweep.cli.app import app
from jobs.results.schema import SAMPLES

TEXT = {"task": "generation", "data_language": "en", "doc_id": "7", "input": "In Egypt,\nthe currency is"}
FACT = {
    "task": "lss",
    "data_language": "en",
    "doc_id": "EG",
    "target_language": "fr",
    "input": "It is\nfr: la\nen: the",
}
JA = {"target_language": "ja", "input": "It is\nja: この\nen: the"}
NEURONS = {"method": "neurons", "op": "set", "patch": "max", "factor": 2.0, "layers": "all", "target_language": "fr"}
ROWS: list[dict[str, Any]] = [
    {**TEXT, "completion": " the pound,\n" + "and so on, " * 30},
    {**TEXT, **NEURONS, "completion": " la livre."},
    {**TEXT, **NEURONS, "selection": "random", "random_seed": 3, "completion": " the pound."},
    {**TEXT, **NEURONS, "selection": "random", "random_seed": 161305327816953, "completion": " a pound."},
    {**TEXT, **NEURONS, "layers": "1,2", "when": "drift", "error": "the answer overflowed"},
    {**TEXT, "method": "prompt_en", "target_language": "fr", "completion": " une livre."},
    {**FACT, "prediction": "en", "correct": False, "score": -1.5},
    {**FACT, **NEURONS, **JA, "prediction": "ja", "score": 1.0},
    {**FACT, **NEURONS, "prediction": "fr", "correct": True, "score": 2.25},
    {"task": "perplexity", "data_language": "fr", "doc_id": "0", "score": 4.125},
    {**NEURONS, "task": "perplexity", "data_language": "fr", "doc_id": "0", "score": 4.5},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS, schema=SAMPLES), tmp_path / "results.parquet")
    return tmp_path


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["samples", *map(str, arguments)], env={"COLUMNS": "76"})


def test_answers_are_printed_under_their_item(folder: Path) -> None:
    result = call(folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "generation, en, item 7",
        "  In Egypt, the currency is",
        '  unsteered                             " the pound,\\nand so on, and so on, and…',
        '  fr set max = 2                        " la livre."',
        '  fr set max = 2, random draw 1         " the pound."',
        '  fr set max = 2, random draw 2         " a pound."',
        "  fr set max = 2 layers 1,2 when drift  failed: the answer overflowed",
        '  fr prompt_en                          " une livre."',
        "",
        "lss, en, item EG",
        "  It is",
        "  fr: la",
        "  en: the",
        "  ja: この",
        "  unsteered (to compare with fr)  en (wrong), score -1.50",
        "  ja set max = 2                  ja, score 1.00",
        "  fr set max = 2                  fr (correct), score 2.25",
        "",
        "perplexity, fr, item 0",
        "  unsteered       nll 4.12",
        "  fr set max = 2  nll 4.50",
    ]


def test_json_has_whole_texts(folder: Path) -> None:
    lines = call(folder / "results.parquet", "--where", "task=generation", "--json").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["completion"] for row in rows] == [row.get("completion") for row in ROWS[:6]]
    assert rows[1]["factor"] == 2


def test_a_draw_keeps_its_number_under_a_filter_and_a_single_one_has_none(folder: Path) -> None:
    of_second = call(folder, "--where", "random_seed=161305327816953")
    assert of_second.stdout.splitlines()[-1] == '  fr set max = 2, random draw 2  " a pound."'
    rows = [row for row in ROWS if row.get("random_seed") != 3]
    pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), folder / "results.parquet")
    assert "fr set max = 2, random  " in call(folder).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--where", "task"), "--where: must be COLUMN=VALUE, for example task=generation; got 'task'"),
        (("--where", "target_language=tr"), "--where: no sample has target_language tr; the sweep has fr, ja"),
    ],
)
def test_a_wrong_filter_is_named(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    result = call(folder, *arguments)
    assert (result.exit_code, result.stderr) == (2, f"error: {message}\n")


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    result = call(tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "there is no file" in result.stderr
