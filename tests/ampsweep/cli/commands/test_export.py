"""`ampsweep export`, and the answers of the exported model without a patch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.folders.model import fingerprint, read_model_folder
from benchmarks.models.families import tiny_model
from engine.neurons.formats.neuron_json import from_json

NEURONS = {"fr": {"0": [1, 5, 90], "2": [3]}, "tr": {"1": [7], "2": [3, 4]}}
SCALE: dict[str, Any] = {"languages": {"fr": 1, "tr": 0.5}, "op": "scale", "factor": 6}
LINE = {"custom_id": "s", "kind": "score", "context": "the thing", "continuation": " in the end"}


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("qwen2", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def neurons(tmp_path: Path) -> Path:
    path = tmp_path / "neurons.json"
    path.write_text(json.dumps(NEURONS))
    return path


def batch(folder: Path, model: Path, line: dict[str, Any], *options: object) -> list[float]:
    source, target = folder / "in.jsonl", folder / "out.parquet"
    source.write_text(json.dumps(line) + "\n")
    result = call("batch", "--model", model, source, target, *options)
    assert result.exit_code == 0, result.output
    (row,) = pq.read_table(target).to_pylist()
    logprobs: list[float] = row["logprobs"]
    return logprobs


def export(model: Path, neurons: object, out: Path, intervention: str) -> Any:
    return call("export", "--model", model, "--neurons", neurons, "--intervention", intervention, "--out", out)


@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.engine)])
def test_an_exported_model_answers_as_the_steered_one(engine: str, model: Path, neurons: Path, tmp_path: Path) -> None:
    result = export(model, neurons, tmp_path / "out", json.dumps(SCALE))
    assert result.exit_code == 0, result.output
    assert "6 neurons scaled in 3 layers" in result.stdout
    assert fingerprint(tmp_path / "out") in result.stdout
    neuron_set = from_json(NEURONS, model=read_model_folder(model))
    neuron_set.save(tmp_path / "set")
    reference = ("--engine", "transformers")
    steered = batch(tmp_path, model, {**LINE, "intervention": SCALE}, "--neurons", tmp_path / "set", *reference)
    plain = batch(tmp_path, model, LINE, *reference)
    exported = batch(tmp_path, tmp_path / "out", LINE, "--engine", engine)
    assert exported == pytest.approx(steered, abs=1e-4)
    assert exported != pytest.approx(plain, abs=1e-2)


def test_a_set_in_the_servers_home_is_found_by_its_id(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neuron_set = from_json(NEURONS, model=read_model_folder(model))
    neuron_set.save(tmp_path / "home" / "neurons" / neuron_set.id)
    monkeypatch.setenv("AMPSWEEP_HOME", str(tmp_path / "home"))
    assert export(model, neuron_set.id, tmp_path / "out", json.dumps(SCALE)).exit_code == 0
    assert export(model, "ns_other", tmp_path / "two", json.dumps(SCALE)).exit_code != 0


@pytest.mark.parametrize(
    ("intervention", "complaint"),
    [
        (json.dumps({**SCALE, "op": "add"}), "--intervention op: op add cannot be folded into weights"),
        (json.dumps({**SCALE, "scope": "prompt"}), "--intervention scope: "),
        ("{", "intervention: is not JSON"),
        ("[]", "intervention: must be an object"),
    ],
)
def test_errors_name_the_cause_and_nothing_is_written(
    intervention: str, complaint: str, model: Path, neurons: Path, tmp_path: Path
) -> None:
    result = export(model, neurons, tmp_path / "out", intervention)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert not (tmp_path / "out").exists()
