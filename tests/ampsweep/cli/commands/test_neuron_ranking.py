"""`ampsweep neurons rank`: a sweep that ablates one neuron at a time, the ranking, and the use of the ranked set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from ampsweep.cli.app import app

pytestmark = pytest.mark.processes

NEURONS = {"fr": {"0": [1, 2], "3": [5]}, "tr": {"1": [7]}, "ja": {}}


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_sweep(folder: Path, model: Path, neuron_set: str, **interventions: Any) -> Path:
    spec = {
        "model": str(model),
        "neurons": {"id": neuron_set},
        "interventions": interventions,
        "tasks": [{"name": "lss", "languages": ["en", "it"], "limit": 6}],
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.fixture
def neurons(model: Path, tmp_path: Path) -> tuple[Path, str]:
    """A neuron set of the model: its folder and its id."""
    (tmp_path / "neurons.json").write_text(json.dumps(NEURONS))
    out = tmp_path / "neurons"
    imported = call("neurons", "import", tmp_path / "neurons.json", "--model", model, "--out", out, "--json")
    return out, json.loads(imported.stdout)["id"]


def test_the_most_needed_neurons_become_a_set_that_a_sweep_can_use(
    model: Path, neurons: tuple[Path, str], tmp_path: Path
) -> None:
    folder, neuron_set = neurons
    ablation = {"languages": ["fr", "tr"], "op": "set", "factors": [0], "neurons": "each", "controls": ["repeat"]}
    sweep = write_sweep(tmp_path, model, neuron_set, **ablation)
    ran = call("run", sweep, "--out", tmp_path / "run", "--neurons", folder, "--engine", "fake")
    assert ran.exit_code == 0, ran.output
    assert "one neuron at a time" in ran.stdout
    rows = [row for row in pq.read_table(tmp_path / "run" / "summary.parquet").to_pylist() if row["op"]]
    edited = {(row["target_language"], row["neuron_layer"], row["neuron_index"], row["neurons"]) for row in rows}
    assert edited == {("fr", 0, 1, 1), ("fr", 0, 2, 1), ("fr", 3, 5, 1), ("tr", 1, 7, 1)}
    lss: dict[tuple[int, int], float] = {}
    for layer, index in ((0, 1), (0, 2), (3, 5)):
        values = [row["value"] for row in rows if (row["neuron_layer"], row["neuron_index"]) == (layer, index)]
        assert len(values) == 2, "one for each base language"
        lss[layer, index] = sum(values)
    expected = sorted(lss, key=lambda neuron: (lss[neuron], neuron))

    options = ("--neurons", folder, "--top", 2, "--out", tmp_path / "top", "--table", tmp_path / "ranking.parquet")
    ranked = call("neurons", "rank", tmp_path / "run", *options, "--json")
    assert ranked.exit_code == 0, ranked.output
    table = pq.read_table(tmp_path / "ranking.parquet").to_pylist()
    french = [row for row in table if row["language"] == "fr"]
    assert [(row["layer"], row["index"]) for row in french] == expected
    assert [row["rank"] for row in french] == [1, 2, 3]
    assert french[0]["loss"] == pytest.approx(0.5 - lss[expected[0]] / 2)
    content = json.loads(ranked.stdout)
    assert content["languages"] == {"fr": 2, "tr": 1, "ja": 0}
    assert "the sweep ranked no neurons of ja" in ranked.stderr
    assert "tr has only 1 ranked neurons" in ranked.stderr
    exported = json.loads(call("neurons", "export", tmp_path / "top").stdout)
    imported = [(int(layer), index) for layer, indices in exported["fr"].items() for index in indices]
    assert imported == sorted(expected[:2])

    use = write_sweep(tmp_path, model, content["id"], languages=["fr"], op="scale", factors=[2])
    used = call("run", use, "--out", tmp_path / "used", "--neurons", tmp_path / "top", "--engine", "fake", "--json")
    assert used.exit_code == 0, used.output
    assert {row["neurons"] for row in json.loads(used.stdout)["summary"]["rows"] if row["op"]} == {2}
    refused = call("neurons", "rank", tmp_path / "used", *options[:6])
    assert refused.exit_code == 2
    assert "neurons: each" in refused.stderr


def test_a_folder_without_a_finished_sweep_is_refused(neurons: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = call("neurons", "rank", tmp_path / "empty", "--neurons", neurons[0], "--top", 1, "--out", tmp_path / "top")
    assert result.exit_code == 3
    assert "give the folder of a finished sweep" in result.stderr


def test_a_folder_that_is_not_there_is_not_asked_of_a_server(neurons: tuple[Path, str], tmp_path: Path) -> None:
    result = call("neurons", "rank", tmp_path / "rnu", "--neurons", neurons[0], "--top", 1, "--out", tmp_path / "best")
    assert result.exit_code == 3
    assert f"there is no folder {tmp_path / 'rnu'}" in result.stderr


def test_a_summary_that_somebody_has_changed_is_refused(neurons: tuple[Path, str], tmp_path: Path) -> None:
    options = ("--neurons", neurons[0], "--top", 1, "--out", tmp_path / "top")
    table = pa.table({"metric": ["lss"], "value": [0.5]})
    for metadata, message in (
        ({b"ampsweep.sweep_id": b"\xff"}, "cannot be read as the summary of a sweep"),
        ({}, "cannot be read as the summary of a sweep: 'ampsweep.sweep_id'"),
        ({b"ampsweep.sweep_id": b"sweep_1"}, "it lacks the columns delta, no_effect, higher_is_better"),
    ):
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "summary.parquet")
        result = call("neurons", "rank", tmp_path, *options)
        assert result.exit_code in (1, 2)
        assert message in " ".join(result.stderr.split())
        assert "run the sweep again" in " ".join(result.stderr.split())
