"""`ampsweep neurons overlap`: folders, JSON files and sets of a server, compared in any combination."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ampsweep import Client
from ampsweep.cli.app import app
from tests.ampsweep.client.server_process import ServerProcess

FIRST = {"fr": {"0": [1, 2], "3": [5]}, "tr": {"1": [7]}, "ja": {}}
SECOND = {"fr": {"0": [2, 3]}, "tr": {}, "en": {"2": [1]}}


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["neurons", "overlap", *map(str, arguments)])


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A neuron set of the model with FIRST's neurons."""
    imported = CliRunner().invoke(
        app, ["neurons", "import", str(write(tmp_path, FIRST)), "--model", str(model), "--out", str(tmp_path / "set")]
    )
    assert imported.exit_code == 0, imported.output
    return tmp_path / "set"


def write(folder: Path, neurons: object, name: str = "neurons.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(neurons))
    return path


def test_a_folder_and_a_file_are_compared_by_language_and_layer(folder: Path, tmp_path: Path) -> None:
    other = write(tmp_path, SECOND, "other.json")
    result = call(folder, other, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["languages"]["fr"] == {
        "a": 3,
        "b": 2,
        "both": 1,
        "jaccard": 0.25,
        "by_layer": [1 / 3, None, None, 0.0],
    }
    assert document["languages"]["tr"]["jaccard"] == 0.0
    assert document["all"]["both"] == 1
    assert (document["all"]["a"], document["all"]["b"]) == (4, 2), "only of the languages that both have"
    assert (document["only_a"], document["only_b"]) == (["ja"], ["en"])
    assert document["b"] == {"id": "other.json", "model": None}
    text = call(folder, other)
    assert "warning: only b has en" in text.stderr
    assert any(line.split()[:5] == ["fr", "3", "2", "1", "0.250"] for line in text.stdout.splitlines())


def test_the_languages_of_one_set_are_compared_with_each_other(folder: Path, tmp_path: Path) -> None:
    neurons = {"id": {"0": [1, 2], "3": [5]}, "ms": {"0": [2], "3": [5]}, "fr": {"1": [7]}, "ja": {}}
    result = call(write(tmp_path, neurons))
    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["neurons.json"],
        ["neurons", "id", "ms", "fr"],
        ["id", "3"],
        ["ms", "2", "0.667"],
        ["fr", "1", "0.000", "0.000"],
        ["ja", "0", "0.000", "0.000", "0.000"],
    ]
    document = json.loads(call(folder, "--json").stdout)
    assert document["neurons"] == {"fr": 3, "tr": 1, "ja": 0}
    assert document["pairs"][0] == {"languages": ["fr", "tr"], "both": 0, "jaccard": 0.0}
    alone = call(write(tmp_path, {"fr": {"0": [1]}}, "alone.json"))
    assert (alone.exit_code, "has only one language" in alone.stderr) == (2, True)


def test_a_table_is_compared_too(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("language,layer,neuron\nfr,0,1\nfr,0,2\nfr,3,5\ntr,1,7\n")
    assert json.loads(call(table, folder, "--json").stdout)["all"]["jaccard"] == 1.0
    table.write_text("language,layer,neuron\nfr,zero,1\n")
    wrong = call(folder, table)
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        "error: b: table.csv, row 1: layer must be a whole number; got 'zero'\n",
    )


def test_an_imported_set_says_so(folder: Path) -> None:
    shown = CliRunner().invoke(app, ["neurons", "show", str(folder)]).stdout
    assert shown.splitlines()[1] == "imported"


@pytest.mark.processes
def test_a_set_of_a_server_is_named_by_its_id(server: ServerProcess, folder: Path) -> None:
    with Client(server.url) as client:
        neuron_set_id = client.create_neuron_set("tiny", FIRST)["id"]
    result = call(neuron_set_id, folder, "--server", server.url, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["a"] == {"id": neuron_set_id, "model": "tiny"}
    assert document["all"]["jaccard"] == 1.0
    assert document["languages"]["ja"]["jaccard"] is None
    missing = call("ns_none", folder, "--server", server.url)
    assert missing.exit_code == 3


def test_what_cannot_be_compared_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = write(tmp_path, {"fr": {"0": [10_000]}}, "outside.json")
    for other, complaint in (
        (outside, "outside.json has neurons outside 4 layers of 32"),
        (write(tmp_path, {"de": {"0": [1]}}, "german.json"), "no language in common"),
        (write(tmp_path, {"fr": {"0": [1, 1]}}, "twice.json"), "is listed twice"),
    ):
        result = call(folder, other)
        assert result.exit_code == 2, result.output
        assert complaint in result.stderr
    missing = call(folder, tmp_path / "nothing")
    assert missing.exit_code == 3
    assert "neither a folder, nor a file, nor the id of a neuron set" in missing.stderr
    pickled = tmp_path / "lists.pt"
    pickled.write_bytes(b"\x80\x02}q\x00.")
    assert "ampsweep neurons import" in call(folder, pickled).stderr
