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

from ampsweep.cli.app import app
from tests.ampsweep.client.chat_server import HttpReply, chat_server, completion

AXES: list[tuple[str | None, str | None]] = [(None, None), ("neurons", "max"), ("neurons", "mean"), ("diffmean", None)]
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
    (values,) = groups(path, "--text", "answer", "--language", "fra_Latn", "--metric", "lfs,script", "--by", "")
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
    result = call(tmp_path, "--metric", "lfs", "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["factor"], first["target_language"], first["lfs"], first["n"]) == (2.0, "fr", 0.5, 2)
    assert (second["factor"], second["lfs"], second["n"]) == (9.0, 1.0, 1)
    assert "2 rows have no text or no single wanted language and are left out" in result.stderr


def test_axes_with_several_values_tell_the_cells_of_a_sweep_apart(tmp_path: Path) -> None:
    row = {"cell_id": "c", "completion": ROWS[0]["completion"], "target_language": "fr", "scope": "all", "layers": None}
    rows = [{**row, "task": "generation", "method": method, "patch": patch} for method, patch in AXES]
    first, *others = groups(write(tmp_path / "results.parquet", rows), "--metric", "script")
    assert list(first)[:4] == ["task", "method", "patch", "target_language"]
    assert [(group["method"], group["patch"]) for group in (first, *others)] == AXES
    named = [
        line.split("  n 1  ")[0].split("  ")
        for line in call(tmp_path / "results.parquet", "--metric", "script").stdout.splitlines()
    ]
    assert named == [
        ["task=generation", f"method={method or 'none'}", *([f"patch={patch}"] if patch else []), "target_language=fr"]
        for method, patch in AXES
    ]


QUESTIONS: list[dict[str, Any]] = [
    {"question": "Où dort le chat ?", "completion": ROWS[0]["completion"], "language": "fr"},
    {"question": "Où dort le chat ?", "completion": ROWS[1]["completion"], "language": "fr"},
    {"question": "Où dort le chat ?", "completion": "Au revoir.", "language": "fr"},
    {"question": None, "completion": "Au revoir.", "language": "fr"},
]


def judged(body: dict[str, Any]) -> HttpReply:
    """Rate 0 what says good-bye, and 2 all else."""
    return completion("0" if "Au revoir" in body["messages"][0]["content"] else "Rating: 2")


def test_relevance_by_a_judge_and_the_steering_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPSWEEP_JUDGE_API_KEY", "judge-key")
    monkeypatch.setenv("AMPSWEEP_API_KEY", "server-key")
    path = write(tmp_path / "rows.jsonl", QUESTIONS)
    with chat_server(judged) as server:
        options = (path, "--metric", "lfs,relevance", "--judge-url", server.url, "--judge-model", "j", "--json")
        result = call(*options, "--out", tmp_path / "scores.parquet")
        request_count = len(server.requests)
        repeated = call(*options)
        assert (request_count, len(server.requests)) == (3, 3)  # the second call asks nothing
    assert result.exit_code == 0, result.output
    assert server.headers[0]["Authorization"] == "Bearer judge-key"
    values = json.loads(result.stdout)
    assert repeated.stdout == result.stdout
    assert (values["n"], values["lfs"], values["relevance"]) == (3, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert values["steering_score"] == pytest.approx(2 / 3)
    assert "1 rows have no text or no single wanted language or no input and are left out" in result.stderr
    assert (tmp_path / "judge-ratings.db").is_file()
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert [(row["value"], row["detail"]) for row in rows if row["metric"] == "relevance"] == [
        (1.0, "Rating: 2"),
        (1.0, "Rating: 2"),
        (0.0, "0"),
    ]
    assert "127.0.0.1" not in str(rows)


def test_without_a_url_the_judge_is_a_model_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPSWEEP_API_KEY", "server-key")
    with chat_server(lambda _body: completion("who knows")) as server:
        monkeypatch.setenv("AMPSWEEP_URL", server.url.removesuffix("/v1"))
        result = call(write(tmp_path / "rows.jsonl", QUESTIONS), "--metric", "relevance", "--judge-model", "j")
    assert result.exit_code == 0, result.output
    assert server.headers[0]["Authorization"] == "Bearer server-key"
    assert "language=fr  n 3  relevance -  relevance_unparsed 3" in result.stdout


def test_out_has_a_row_for_each_text(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet")
    groups(path, "--metric", "script", "--by", "source", "--out", tmp_path / "scores.parquet")
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.select(["file", "row", "source", "value"]).to_pylist()[1] == {
        "file": "rows.parquet",
        "row": 2,
        "source": "a",
        "value": 1.0,
    }


def test_text_output_names_groups_rates_and_what_they_rest_on(tmp_path: Path) -> None:
    result = call(write(tmp_path / "rows.jsonl"), "--by", "source", "--identifier", "lid.176")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first.startswith("source=a  n 2  lpr 0.500 [0.095, 0.905]  wpr -")
    assert first.endswith("(rests on 2 texts; at least 20 make an interval meaningful)")
    assert second.startswith("source=b  n 2  lpr 1.000")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--text", "answer"), "rows.jsonl, line 1 has no column 'answer'; it has: completion, language, source"),
        (("--by", "task"), "rows.jsonl, line 1 has no column 'task'"),
        (("--by", "source,source"), "names a column twice"),
        (("--language", "target_lang_x"), "rows.jsonl has no column 'target_lang_x'"),
        (("--metric", "bleu"), "unknown metric 'bleu'"),
        (("--metric", "lfs,lfs"), "must name at least one metric, each once"),
        (("--metric", "relevance"), "metric relevance needs --judge-model"),
        (("--identifier", "cld3"), "unknown language identifier 'cld3'"),
        (("--english-words", "gone.txt"), "there is no file gone.txt"),
        (("--nll-model", "atlas"), "--nll-model: has no effect without --metric answer_nll; leave it out"),
        (("--reference", "gold"), "--reference: has no effect without --metric comet or metricx; leave it out"),
    ],
)
def test_a_wrong_option_is_named(options: tuple[str, str], message: str, tmp_path: Path) -> None:
    result = call(write(tmp_path / "rows.jsonl"), *options)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())


def test_a_list_of_words_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes("with\nnaïve\n".encode("latin-1"))
    result = call(write(tmp_path / "rows.jsonl"), "--english-words", tmp_path / "words.txt")
    assert result.exit_code == 2, result.output
    assert "words.txt, line 2: cannot be read as UTF-8 text" in " ".join(result.stderr.split())


def test_a_wrong_row_is_named(tmp_path: Path) -> None:
    result = call(write(tmp_path / "rows.jsonl", [*ROWS, {**ROWS[0], "completion": 3}]))
    assert result.exit_code == 2
    assert "rows.jsonl, line 5: completion must be a text; got 3" in result.stderr
    assert call(tmp_path / "gone.jsonl").exit_code == 2
    assert call(write(tmp_path / "empty.jsonl", [])).exit_code == 2


def test_answers_are_scored_under_the_unsteered_model(model: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [{**row, "prompt": "What does the cat do?"} for row in ROWS])
    options = ("--metric", "answer_nll", "--engine", "fake", "--by", "source")
    first, _ = groups(rows, *options, "--nll-model", model)
    assert first["n"] == 2
    assert first["answer_nll"] > 0
    assert first["nll_model"].endswith("fake float32")
    refused = call(rows, *options)
    assert refused.exit_code == 2
    assert "answer_nll needs --nll-model" in refused.stderr
