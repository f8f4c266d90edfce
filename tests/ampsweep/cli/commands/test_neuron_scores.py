"""`ampsweep identify --scores` and `ampsweep neurons scores`, on the fake engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ampsweep.cli.app import app
from engine.neurons.lape_scores import SCORES_FILE, LapeScores
from engine.neurons.neuron_set import NeuronSet

LINES = {"en": ["Hello there.", "How are you?"], "fr": ["Bonjour.", "Vous allez bien ?"], "tr": ["Merhaba."]}


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)])


def identify(model: Path, folder: Path, *options: str) -> Path:
    corpus, out = folder / "corpus", folder / "neurons"
    corpus.mkdir(exist_ok=True)
    for code, lines in LINES.items():
        (corpus / f"{code}.txt").write_text("\n".join(lines))
    rate = ("--param", "top_rate=0.1", "--engine", "fake")
    result = call("identify", "--model", model, "--corpus", corpus, "--out", out, *rate, *options)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    return identify(model, tmp_path, "--scores")


def test_the_lowest_entropies_are_printed_and_all_scores_written(folder: Path, tmp_path: Path) -> None:
    result = call("neurons", "scores", folder, "--top", "2", "--out", tmp_path / "scores.parquet", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    neuron_set = NeuronSet.load(folder)
    scored = LapeScores.load(folder, neuron_set=neuron_set.id)
    assert content["left_out"] == ["attention_heads"]
    assert [row["site"] for row in content["scores"]] == ["mlp", "mlp", "residual", "residual"]
    by_language = {code: sum(layers) for code, layers in content["sites"]["mlp"]["selected"].items()}
    assert by_language == {code: len(pairs) for code, pairs in neuron_set.neurons.items()}
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.num_rows == sum(site.widths.total for site in scored.sites.values())
    rows = {(row["site"], row["layer"], row["index"]): row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    for row in content["scores"]:
        stored = rows[row["site"], row["layer"], row["index"]]
        assert {code: stored[f"p_{code}"] for code in LINES} == row["probability"]
        assert (stored["entropy"], stored["selected"]) == (row["entropy"], row["selected"])
    chosen = {(row["layer"], row["index"]) for row in rows.values() if row["site"] == "mlp" and "tr" in row["selected"]}
    assert sorted(chosen) == [tuple(pair) for pair in neuron_set.neurons["tr"].tolist()]
    assert json.loads(table.schema.metadata[b"ampsweep.scores"])["neuron_set"] == neuron_set.id


def test_the_text_says_what_is_left_out(folder: Path) -> None:
    result = call("neurons", "scores", folder, "--top", "1", "--site", "residual")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[1] == "attention heads are left out"
    assert [line.split()[0] for line in lines[2:] if line] == ["residual", "site", "residual"]


def test_json_has_all_scores(folder: Path, tmp_path: Path) -> None:
    result = call("neurons", "scores", folder, "--top", "0", "--site", "mlp", "--out", tmp_path / "scores.json")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "scores.json").read_text())
    assert len(content["scores"]) == content["sites"]["mlp"]["scores"] > 0
    assert {row["site"] for row in content["scores"]} == {"mlp"}


def test_the_files_of_the_set_are_not_replaced(folder: Path) -> None:
    result = call("neurons", "scores", folder, "--out", folder / "metadata.json")
    assert result.exit_code == 2
    assert "one of the files to read" in result.stderr
    assert NeuronSet.load(folder).languages == tuple(LINES)


def test_a_set_without_scores_says_how_to_get_them(model: Path, folder: Path, tmp_path: Path) -> None:
    assert (folder / SCORES_FILE).is_file()
    identify(model, tmp_path)  # in the same folder, without --scores
    result = call("neurons", "scores", folder)
    assert result.exit_code == 3
    assert "identify the set again with --scores" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--site", "heads"), "mlp, residual"), (("--out", "scores.csv"), ".parquet or .json")],
)
def test_wrong_options_are_named(folder: Path, options: tuple[str, str], message: str) -> None:
    result = call("neurons", "scores", folder, *options)
    assert result.exit_code == 2
    assert message in result.stderr
