"""`ampsweep evaluate`: JSON lines, Parquet and results of a sweep."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ampsweep.cli import app

ROWS: list[dict[str, Any]] = [
    {"completion": "Le chat dort sur le canapé depuis ce matin.", "language": "fr", "source": "a"},
    {"completion": "The cat has been sleeping on the sofa.", "language": "fra_Latn", "source": "a"},
    {"completion": "Кошка с утра спит на старом диване.", "language": "ru", "source": "b"},
    {"completion": "Кошка with утра спит на старом диване.", "language": "ru", "source": "b"},
]


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


def groups(*arguments: object) -> list[dict[str, Any]]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_language_confusion_by_group(name: str, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("with\n")
    options = ("--identifier", "lid.176.ftz", "--english-words", words, "--by", "source,language")
    french, named, russian = groups(write(tmp_path / name), *options)
    assert (french["source"], french["language"], french["n"], french["lpr"], french["wpr"]) == (
        "a",
        "fr",
        1,
        1.0,
        None,
    )
    assert (named["language"], named["n"], named["lpr"]) == ("fra_Latn", 1, 0.0)
    assert (russian["n"], russian["lpr"], russian["wpr"]) == (2, 1.0, 0.5)
    assert russian["lcpr"] == pytest.approx(2 / 3)


def test_one_language_for_all_texts_and_a_text_column(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"answer": row["completion"]} for row in ROWS])
    (values,) = groups(path, "--text", "answer", "--language", "fra_Latn", "--metric", "language_forcing", "--by", "")
    assert (values["n"], values["lfs"], values["script"]) == (4, 0.25, 0.5)


def test_results_of_a_sweep(tmp_path: Path) -> None:
    cell = {"cell_id": "c", "task": "generation", "data_language": "en", "selection": "lape", "op": "scale"}
    rows = [
        {**cell, "factor": factor, "completion": text, "target_language": target}
        for factor, target, text in [
            (2.0, "fr", ROWS[0]["completion"]),
            (2.0, "fr", ROWS[1]["completion"]),
            (9.0, "fr", ROWS[0]["completion"]),
            (9.0, "fr", None),
            (9.0, "fr+ru", ROWS[0]["completion"]),
        ]
    ]
    write(tmp_path / "results.parquet", rows)
    result = call(tmp_path, "--metric", "language_forcing", "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["factor"], first["target_language"], first["lfs"], first["n"]) == (2.0, "fr", 0.5, 2)
    assert (second["factor"], second["lfs"], second["n"]) == (9.0, 1.0, 1)
    assert "2 rows have no text or no single wanted language and are left out" in result.stderr


def test_text_output_names_groups_rates_and_what_they_rest_on(tmp_path: Path) -> None:
    result = call(write(tmp_path / "rows.jsonl"), "--by", "source", "--identifier", "lid.176")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first.startswith("source=a  n 2  lpr 0.500 [0.000, 1.000]  wpr -")
    assert first.endswith("(rests on 2 texts; at least 20 make an interval meaningful)")
    assert second.startswith("source=b  n 2  lpr 1.000")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--text", "answer"), "rows.jsonl has no column 'answer'; it has: completion, language, source"),
        (("--by", "task"), "rows.jsonl has no column 'task'"),
        (("--by", "source,source"), "names a column twice"),
        (("--language", "target_lang_x"), "rows.jsonl has no column 'target_lang_x'"),
        (("--metric", "bleu"), "unknown metric 'bleu'"),
        (("--identifier", "cld3"), "unknown language identifier 'cld3'"),
        (("--english-words", "gone.txt"), "there is no file gone.txt"),
    ],
)
def test_a_wrong_option_is_named(options: tuple[str, str], message: str, tmp_path: Path) -> None:
    result = call(write(tmp_path / "rows.jsonl"), *options)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())


def test_a_wrong_row_is_named(tmp_path: Path) -> None:
    result = call(write(tmp_path / "rows.jsonl", [*ROWS, {**ROWS[0], "completion": 3}]))
    assert result.exit_code == 2
    assert "rows.jsonl, line 5: completion must be a text; got 3" in result.stderr
    assert call(tmp_path / "gone.jsonl").exit_code == 2
    assert call(write(tmp_path / "empty.jsonl", [])).exit_code == 2
