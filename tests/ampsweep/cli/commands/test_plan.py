"""`ampsweep plan` and `run --dry-run`: what a sweep costs, before and after it was run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.cli.commands import plan as plan_module
from tests.ampsweep.client.server_process import ServerProcess
from tests.ampsweep.conftest import CELLS


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_plan_is_printed_by_task(local: Path, tmp_path: Path) -> None:
    result = call("plan", local, "--engine", "fake")
    assert result.exit_code == 0, result.output
    first, header, lss, *rest = result.stdout.splitlines()
    assert first.startswith(f"first-look: {CELLS} cells of ")
    assert header.split()[:3] == ["to", "compute", "cells"]
    name, cells, reused, items, requests, prompt_tokens, new_tokens = lss.split()
    assert (name, cells, reused, prompt_tokens, new_tokens) == ("lss", str(CELLS), "0", "?", "0")
    assert 0 < int(items) <= 4 * CELLS
    assert int(requests) == 2 * int(items), "the object in either language"
    assert "time: unknown; no sweep of this model with these tasks has been run here" in rest
    assert rest[-1] == "note: `ampsweep plan --measure` loads the model and measures how long each task takes"
    assert {path.name for path in tmp_path.iterdir()} == {"local.yaml"}, "nothing is written"


def test_a_dry_run_knows_what_the_folder_holds(local: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", ("--engine", "fake", "--json")
    before = json.loads(call("run", local, "--out", out, "--dry-run", *options).stdout)
    assert (before["cells"], before["reused"]) == (CELLS, 0)
    assert not out.exists()
    assert call("run", local, "--out", out, *options).exit_code == 0
    after = json.loads(call("run", local, "--out", out, "--dry-run", *options).stdout)
    assert (after["reused"], after["requests"], after["seconds"]) == (CELLS, 0, 0)
    assert json.loads(call("plan", local, "--out", out, *options).stdout) == after


def test_a_plan_with_a_measurement(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "MEASURE_SECONDS", 0.01)
    result = call("plan", local, "--engine", "fake", "--measure", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["seconds_from"] == "a measurement on the engine"
    assert content["seconds"] > 0
    assert "measuring lss" in result.stderr


@pytest.mark.parametrize("option", ["--out", "--data", "--neurons"])
def test_an_option_of_this_machine_is_refused_where_a_server_plans(option: str, local: Path, tmp_path: Path) -> None:
    refused = call("plan", local, "--server", "http://127.0.0.1:9", option, tmp_path)
    assert (refused.exit_code, refused.stderr) == (2, f"error: {option}: the server decides; leave out {option}\n")


@pytest.mark.parametrize("command", [("plan",), ("run", "--dry-run", "--out", "out")])
def test_an_adapter_or_a_corpus_that_the_spec_does_not_use_is_named(
    command: tuple[str, ...], local: Path, model: Path, tmp_path: Path
) -> None:
    refused = call(*command, local, "--engine", "fake", "--lora", f"formal={model}")
    assert refused.exit_code == 2
    assert "--lora: the spec uses no adapter; add `adapter: formal` to it" in " ".join(refused.stderr.split())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "fr.txt").write_text("Bonjour.\n")
    warned = call(*command, local, "--engine", "fake", "--corpus", f"mine={tmp_path / 'mine'}")
    assert warned.exit_code == 0, warned.output
    assert "warning: --corpus mine has no effect: the spec uses the corpus atlas" in " ".join(warned.stderr.split())


@pytest.mark.processes
def test_a_server_plans_with_the_same_numbers(
    server: ServerProcess, spec: dict[str, Any], local: Path, tmp_path: Path
) -> None:
    remote = tmp_path / "remote.yaml"
    remote.write_text(yaml.safe_dump({**spec, "seed": 5}))
    there = json.loads(call("plan", remote, "--server", server.url, "--json").stdout)
    local.write_text(yaml.safe_dump({**yaml.safe_load(local.read_text()), "seed": 5}))
    here = json.loads(call("plan", local, "--engine", "fake", "--json").stdout)
    numbers = ("cells", "items", "requests", "max_new_tokens")
    assert [there[name] for name in numbers] == [here[name] for name in numbers]
    refused = call("plan", remote, "--server", server.url, "--measure")
    assert (refused.exit_code, "measure" in refused.stderr) == (2, True)
