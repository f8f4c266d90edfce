"""Tables with a row for each neuron: the same neurons as JSON, and errors that name the row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neurons.formats.neuron_file import read_neuron_file
from engine.neurons.formats.neuron_table import read_table

MODEL = ModelFolder(name="made-up", fingerprint="f" * 64, layers=2, width=8)
NEURONS = {"fr": {"0": [1, 3]}, "en": {"1": [7]}}
ROWS = [("fr", 0, 3), ("en", 1, 7), ("fr", 0, 1)]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "language,layer,neuron\nfr,0,3\nen,1,7\nfr,0,1\n",
        "\ufefflanguage;layer;neuron\r\nfr;0;3\r\nen;1;7\r\nfr;0;1\r\n",
        ",Lang,Layer,score,index\n0,fra_Latn,0.0,0.5,3.0\n1,eng_Latn,1.0,0.5,7.0\n2,fra_Latn,0.0,,1.0\n",
        "neuron\tlayer\tlanguage\n3\t0\tfr\n7\t1\ten\n1\t0\tfr\n",
        json.dumps([{"language": code, "layer": layer, "neuron": index} for code, layer, index in ROWS]),
    ],
    ids=["csv", "semicolons", "pandas", "tabs", "json"],
)
def test_a_table_has_the_neurons_of_the_nested_lists(tmp_path: Path, text: str) -> None:
    table = read_neuron_file(written(tmp_path / "table", text), model=MODEL, languages=None)
    nested = read_neuron_file(written(tmp_path / "nested", json.dumps(NEURONS)), model=MODEL, languages=None)
    assert (table.id, {code: pairs.tolist() for code, pairs in table.neurons.items()}) == (
        nested.id,
        {"en": [[1, 7]], "fr": [[0, 1], [0, 3]]},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("language,layer,neuron\nfr,0,3\nfr,one,2\n", "table, row 2: layer must be a whole number; got 'one'"),
        ("language,layer,neuron\nfr,0,1.5\n", "row 1: neuron must be a whole number; got '1.5'"),
        ("language,layer,neuron\nfr,0\n", "row 1 has no neuron; write a table with the columns language, layer"),
        ('[{"language": "fr", "layer": 0}]', "row 1 has no neuron"),
        ('[{"language": "fr", "layer": true, "neuron": 1}]', "layer must be a whole number; got 'True'"),
        ("language,layer,neuron\nfr,0,3\nfr,0,3\n", r"neurons\.fr\.0: neuron 3 is listed twice"),
        ("language,layer,neuron\nfr,2,3\n", r"neurons\.fr\.2: made-up has layers 0 to 1"),
        ("language,layer\nfr,2\n", "is neither JSON .* nor a table with the columns language, layer and neuron"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_neuron_file(written(tmp_path / "table", text), model=MODEL, languages=None)


@pytest.mark.parametrize("content", [b"", b"notes", b"\xff\xfe\x00", "language,layer,neuron".encode("utf-16")])
def test_another_text_is_no_table(content: bytes) -> None:
    assert read_table(content, source="notes", param="file") is None
