"""Neuron sets that commands are given as folders, as ids of the home folder, and as ids of a server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.folders.model import read_model_folder
from engine.neurons.formats.neuron_json import from_json
from jobs.neuron_sets.registry import NeuronSets
from tests.ampsweep.cli.commands.local_commands import call as run
from tests.ampsweep.client.server_process import ServerProcess

NEURONS = {"fr": {"0": [1, 2], "3": [5]}, "tr": {"1": [7]}}
NOWHERE = "http://127.0.0.1:9"


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["neurons", *map(str, arguments)])


def stored_in(home: Path, model: Path, neurons: object) -> str:
    """Store a neuron set in a home folder and return its id."""
    neuron_set = from_json(neurons, model=read_model_folder(model, name=str(model)))
    NeuronSets(home / "neurons").publish(neuron_set.id, neuron_set.save)
    return neuron_set.id


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AMPSWEEP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AMPSWEEP_URL", NOWHERE)
    return tmp_path / "home"


def test_an_id_of_the_home_folder_is_as_good_as_the_folder(model: Path, home: Path) -> None:
    neuron_set_id = stored_in(home, model, NEURONS)
    folder = home / "neurons" / neuron_set_id
    for command in ("show", "export"):
        by_id, by_folder = call(command, neuron_set_id, "--json"), call(command, folder, "--json")
        assert by_id.exit_code == 0, by_id.output
        assert by_id.stdout == by_folder.stdout
    assert json.loads(call("export", neuron_set_id).stdout) == NEURONS
    assert json.loads(call("overlap", neuron_set_id, folder, "--json").stdout)["all"]["jaccard"] == 1.0


@pytest.mark.parametrize("command", ["show", "export"])
def test_an_unknown_id_says_where_was_looked(command: str, home: Path) -> None:
    result = call(command, "ns_unknown")
    assert result.exit_code == 5
    assert f"no neuron set ns_unknown in {home / 'neurons'}, and its server does not answer" in result.stderr
    assert NOWHERE in result.stderr


def test_commands_that_need_the_files_look_in_the_home_folder_only(home: Path, tmp_path: Path) -> None:
    ranked = ("rank", tmp_path, "--neurons", "ns_unknown", "--top", 1, "--out", tmp_path / "ranked")
    for command in (("scores", "ns_unknown"), ("push", "ns_unknown", "org/name"), ranked):
        result = call(*command)
        assert result.exit_code == 3, result.output
        assert f"no neuron set ns_unknown in {home / 'neurons'}; give its folder" in result.stderr


@pytest.mark.parametrize("command", [("plan",), ("run", "--out", "out"), ("run", "--out", "out", "--dry-run")])
def test_a_command_with_a_spec_names_the_option_that_is_wrong(
    command: tuple[str, ...], model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = {
        "name": "s",
        "model": str(model),
        "neurons": {"id": "ns_unknown"},
        "interventions": {"languages": ["fr"], "op": "scale", "factors": [2]},
        "tasks": [{"name": "lss", "languages": ["en"], "limit": 1}],
    }
    Path("spec.json").write_text(json.dumps(spec))
    words = (*command, "spec.json", "--engine", "fake")
    option = run(*words, "--neurons", "ns_other")
    assert option.exit_code == 3, option.output
    assert f"error: --neurons: no neuron set ns_other in {home / 'neurons'}; give its folder" in option.stderr
    as_json = json.loads(run(*words, "--neurons", "ns_other", "--json").stderr.splitlines()[-1])
    assert as_json["error"]["param"] == "neurons"
    field = run(*words)
    assert field.exit_code in (2, 3), field.output
    assert "error: neurons.id: unknown neuron set 'ns_unknown'; known: none; give its folder" in field.stderr


def test_a_run_refuses_a_neuron_set_that_its_spec_does_not_use(
    model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spec's own neurons would be found and edited instead, without a word."""
    monkeypatch.chdir(tmp_path)
    neuron_set_id = stored_in(home, model, NEURONS)
    spec = {
        "model": str(model),
        "neurons": {"method": "random", "corpus": "atlas", "languages": ["en", "fr"]},
        "interventions": {"languages": ["fr"], "op": "scale", "factors": [2]},
        "tasks": [{"name": "lss", "languages": ["en"], "limit": 1}],
    }
    Path("spec.json").write_text(json.dumps(spec))
    result = run("run", "spec.json", "--out", "out", "--engine", "fake", "--neurons", neuron_set_id)
    assert result.exit_code == 2, result.output
    assert "error: --neurons: the spec identifies its neurons itself by random on atlas: ns_" in result.stderr
    assert f", and would not use {neuron_set_id}; " in result.stderr
    assert f"write `neurons: {{id: {neuron_set_id}}}`" in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize("command", [("plan",), ("run", "--out", "out"), ("run", "--out", "out", "--dry-run")])
@pytest.mark.parametrize("by_method", [True, False])
def test_a_set_that_the_spec_does_not_use_is_rejected(
    command: tuple[str, ...],
    by_method: bool,
    model: Path,
    local: Path,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("neurons.json").write_text(json.dumps({"fr": {"0": [1]}}))
    call("import", "neurons.json", "--model", model, "--out", "set")
    given = json.loads(Path("set/metadata.json").read_text())["id"]
    spec = yaml.safe_load(local.read_text())
    Path("spec.json").write_text(json.dumps(spec if by_method else {**spec, "neurons": {"id": "ns_other"}}))
    refused = run(*command, "spec.json", "--engine", "fake", "--neurons", "set")
    assert refused.exit_code == 2, refused.output
    uses = r"identifies its neurons itself by lape on atlas: ns_\w+" if by_method else "names ns_other"
    remedy = rf"write `neurons: \{{id: {given}\}}` in the spec, or leave --neurons out"
    message = " ".join(refused.stderr.split())
    assert re.search(rf"error: --neurons: the spec {uses}, and would not use {given}; {remedy}", message)
    assert not Path("out").exists()


def test_a_set_that_the_spec_would_identify_is_used(
    model: Path, local: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    identify = ("identify", "--model", model, "--corpus", "atlas", "--languages", "en,fr,tr", "--engine", "fake")
    assert run(*identify, "--out", "set").exit_code == 0
    planned = run("plan", local, "--engine", "fake", "--neurons", "set")
    assert planned.exit_code == 0, planned.output


def test_a_source_that_is_neither_folder_nor_id_is_rejected(home: Path) -> None:
    result = call("show", "nothing/here")
    assert (result.exit_code, "nothing/here is neither a folder, nor a file, nor the id" in result.stderr) == (3, True)


@pytest.mark.processes
def test_a_set_of_a_server_is_shown_exported_and_compared(server: ServerProcess, home: Path, tmp_path: Path) -> None:
    from ampsweep import Client

    with Client(server.url) as client:
        neuron_set_id = client.create_neuron_set("tiny", NEURONS)["id"]
    shown = call("show", neuron_set_id, "--server", server.url, "--json")
    assert shown.exit_code == 0, shown.output
    described = json.loads(shown.stdout)
    assert (described["id"], described["method"], described["languages"]) == (
        neuron_set_id,
        "imported",
        {"fr": 3, "tr": 1},
    )
    assert (described["patch"], described["by_layer"]["fr"][:4]) == (False, [2, 0, 0, 1])
    assert f"{neuron_set_id}  tiny" in call("show", neuron_set_id, "--server", server.url).stdout
    assert json.loads(call("export", neuron_set_id, "--server", server.url).stdout) == NEURONS
    (tmp_path / "neurons.json").write_text(json.dumps(NEURONS))
    compared = call("overlap", neuron_set_id, tmp_path / "neurons.json", "--server", server.url, "--json")
    assert json.loads(compared.stdout)["all"]["jaccard"] == 1.0
    missing = call("show", "ns_unknown", "--server", server.url)
    assert missing.exit_code == 3
    assert f"no neuron set ns_unknown in {home / 'neurons'}, and none on the server at {server.url}" in missing.stderr


def test_a_file_and_another_folder_are_not_sets_and_say_what_to_give(model: Path, tmp_path: Path, home: Path) -> None:
    (tmp_path / "neurons.json").write_text(json.dumps(NEURONS))
    steering = ("--languages", "fr", "--factor", "2", "--engine", "fake")
    of_file = run("generate", "Hi", "--model", model, "--neurons", tmp_path / "neurons.json", *steering)
    assert of_file.exit_code == 3
    assert f"`ampsweep neurons import {tmp_path}/neurons.json --model MODEL --out FOLDER`" in of_file.stderr
    of_folder = call("show", tmp_path)
    assert of_folder.exit_code == 3
    assert "give a folder that `ampsweep identify` or `ampsweep neurons import` wrote" in of_folder.stderr
