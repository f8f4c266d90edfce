"""Incomplete results are reported with exit code 1, and no command replaces the results of another sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.errors import InvalidRequest
from engine.fake import FakeEngine
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.processes

TASKS = [{"name": "lss", "languages": ["en", "fr"], "limit": 12}]
ROW = {"premise": "Ha tossito.", "choice1": "Era malata.", "choice2": "Rideva.", "question": "cause", "label": 0}


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_spec(path: Path, spec: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(spec))
    return path


def test_the_commands_of_a_server_say_what_failed_and_why(tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "spec.yaml", {**SPEC, "tasks": TASKS})
    with server_in_thread(Installation.build(tmp_path / "home"), max_model_len=55) as (url, _):
        sent = call("submit", spec, "--watch", "--server", url)
        sweep = sent.stdout.split()[0]
        status = call("status", sweep, "--failures", "--server", url)
        listed = call("status", "--server", url)
        lines = [
            json.loads(line)
            for line in call("status", sweep, "--failures", "--json", "--server", url).stdout.splitlines()
        ]
        results = call("results", sweep, "--out", tmp_path / "samples.parquet", "--server", url)
    record, *cells = lines
    (error,) = record["errors"]
    assert error["code"] == "completed_with_failures"
    assert (error["failed_cells"], error["failed_samples"]) == (0, record["failed_samples"])
    assert "55" in error["first_reason"]
    for result in (sent, results):
        assert result.exit_code == 1
        assert error["message"] in result.stderr
    assert listed.stdout.splitlines() == [f"{status.stdout.splitlines()[0]}  {error['message']}"]
    assert (tmp_path / "samples.parquet").is_file()
    assert status.exit_code == 0
    assert sum(cell["failed_samples"] for cell in cells) == record["failed_samples"]
    for cell, line in zip(cells, status.stdout.splitlines()[1:], strict=True):
        assert line.startswith(cell["id"])
        assert line.endswith(cell["sample_error"])


def test_a_run_with_failed_samples_says_so_and_tries_them_again(
    spec: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    rows = [{"idx": 0, "lang": "it", **ROW}, {"idx": 1, "lang": "it", **ROW, "premise": "tosse " * 1000}]
    data = tmp_path / "data" / "xcopa"
    data.mkdir(parents=True)
    (data / "test.it.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    local = write_spec(
        tmp_path / "spec.yaml", {**spec, "model": str(model), "tasks": [{"name": "xcopa", "languages": ["it"]}]}
    )
    arguments = ("run", local, "--out", tmp_path / "out", "--data", data.parent, "--engine", "fake", "--json")
    result = call(*arguments)
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["failed_samples"] > 0
    assert summary["errors"][0]["code"] == "completed_with_failures"
    assert summary["errors"][0]["message"] in result.stderr


def test_cells_all_of_whose_samples_failed_are_computed_anew_by_the_same_run(
    spec: dict[str, Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data" / "xcopa"
    data.mkdir(parents=True)
    (data / "test.it.jsonl").write_text(json.dumps({"idx": 0, "lang": "it", **ROW}) + "\n")
    tasks = [{"name": "xcopa", "languages": ["it"]}]
    local = write_spec(tmp_path / "spec.yaml", {**spec, "model": str(model), "tasks": tasks})
    arguments = ("run", local, "--out", tmp_path / "out", "--data", data.parent, "--engine", "fake", "--json")

    async def fail(*_: object, **__: object) -> None:
        raise InvalidRequest("no template")

    with monkeypatch.context() as broken:
        broken.setattr(FakeEngine, "score", fail)
        first = call(*arguments)
    again = call(*arguments)
    assert first.exit_code == 1
    assert json.loads(first.stdout)["failed_samples"] > 0
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["failed_samples"] == 0
    samples = pq.read_table(tmp_path / "out" / "results.parquet")
    assert set(samples["error"].to_pylist()) == {None}


def test_a_run_of_another_spec_does_not_replace_the_results_of_the_first(
    local: Path, spec: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("run", local, "--out", out, "--engine", "fake")
    assert call(*arguments).exit_code == 0
    assert call(*arguments).exit_code == 0, "the same sweep goes on"
    before = (out / "results.parquet").read_bytes()
    write_spec(local, {**spec, "model": str(model), "name": "other", "seed": 5})
    refused = call(*arguments)
    assert refused.exit_code == 2
    assert "first-look" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert (out / "results.parquet").read_bytes() == before
    assert call(*arguments, "--overwrite").exit_code == 0
    assert (out / "results.parquet").read_bytes() != before


def test_a_run_does_not_replace_files_that_no_run_wrote(local: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.parquet").write_bytes(b"mine")
    assert call("run", local, "--out", out, "--engine", "fake").exit_code == 2
    assert (out / "results.parquet").read_bytes() == b"mine"


def test_a_report_of_a_sweep_that_cannot_be_found_names_the_server(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    no_server = call("report", "sweep_1", "--out", page, "--server", "http://127.0.0.1:9")
    with server_in_thread(Installation.build(tmp_path / "home")) as (url, _):
        unknown = call("report", "sweep_1", "--out", page, "--server", url)
    assert (no_server.exit_code, unknown.exit_code) == (5, 3)
    assert no_server.stderr.startswith("error: no connection to a server at http://127.0.0.1:9: ")
    assert no_server.stderr.endswith(
        "; start one with `ampsweep serve`, or name another with --server or AMPSWEEP_URL\n"
    )
    assert unknown.stderr == f"error: no sweep sweep_1; `ampsweep status` lists the sweeps at {url}\n"
    assert "folder" not in no_server.stderr + unknown.stderr
