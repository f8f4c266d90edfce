"""`ampsweep list`: what a spec can name, here and on a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from typer.testing import CliRunner

from ampsweep import Client
from ampsweep.cli.app import app
from ampsweep.cli.commands.list_offers import KINDS, OFFERED, neuron_set_line, offer_line
from ampsweep.client.api import Api
from jobs.planning.offers import OFFERS
from tests.ampsweep.cli.options.test_neuron_source import stored_in
from tests.ampsweep.client.server_process import ServerProcess


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_kinds_are_those_that_there_are() -> None:
    assert tuple(OFFERS) == OFFERED
    assert {"models", *get_args(get_type_hints(Api.offers)["kind"])} == set(OFFERED)
    assert set(KINDS) - set(OFFERED) == {"neurons", "sweeps"}


def test_each_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "fr.txt").write_text("Bonjour.\n")
    result = call("list", "corpora", "--corpus", f"mine={tmp_path}")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["atlas", "mine"]
    assert result.stdout.splitlines()[1] == f"{'mine':<20} languages fr"
    tasks = [json.loads(line) for line in call("list", "tasks", "--json").stdout.splitlines()]
    assert "lss" in [task["id"] for task in tasks]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("models", "--server", "http://127.0.0.1:9"), "--data: the server decides; leave out --data"),
        (("neurons",), "--data: has no effect on neurons; leave it out"),
        (("sweeps",), "--data: has no effect on sweeps; leave it out"),
    ],
)
def test_an_option_without_an_effect_is_refused(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = call("list", *words, "--data", tmp_path)
    assert (result.exit_code, result.stderr) == (2, f"error: {message}\n")


def test_an_intervention_is_shown_by_what_it_sets() -> None:
    intervention = {"languages": ["fr", "it"], "op": "scale", "factor": 2.0, "layers": None, "tokens": {"end": 8}}
    model = {"id": "tiny+fr", "object": "model", "parent": "tiny", "is_base": False, "intervention": intervention}
    line = offer_line(model)
    assert line.split(maxsplit=1)[1] == "parent tiny; intervention languages fr, it, op scale, factor 2.0, tokens end 8"


def test_the_neuron_sets_of_the_home_folder_are_listed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMPSWEEP_HOME", str(tmp_path / "home"))
    assert call("list", "neurons").stdout == ""
    neuron_set_id = stored_in(tmp_path / "home", model, {"fr": {"0": [1, 2]}, "tr": {}})
    result = call("list", "neurons")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    assert line.split() == [neuron_set_id, str(model), "imported", "fr", "2,", "tr", "0"]
    (described,) = map(json.loads, call("list", "neurons", "--json").stdout.splitlines())
    assert (described["id"], described["languages"]) == (neuron_set_id, {"fr": 2, "tr": 0})


def test_a_set_that_is_being_identified_shows_how_far_that_is() -> None:
    progress = {
        "language": "fr",
        "languages": 3,
        "languages_done": 1,
        "tokens": 31,
        "total_tokens": 100,
        "tokens_per_second": 0.5,
        "seconds_left": 138.0,
    }
    unfinished = {"id": "ns_1", "model": "gemma", "status": "in_progress", "error": None, "progress": progress}
    assert neuron_set_line(unfinished) == "ns_1  gemma  in progress: finding neurons: 31 %, 2 min left"
    assert neuron_set_line({**unfinished, "progress": None}) == "ns_1  gemma  in progress"
    failed = {**unfinished, "status": "failed", "error": "the corpus has no sentence", "progress": None}
    assert neuron_set_line(failed) == "ns_1  gemma  failed: the corpus has no sentence"


def test_a_misspelt_kind_is_corrected() -> None:
    result = call("list", "lanugages")
    assert (result.exit_code, "Did you mean 'languages'?" in result.stderr) == (2, True)


@pytest.mark.processes
def test_a_server_lists_its_own(server: ServerProcess) -> None:
    for kind, known in (("models", "tiny"), ("corpora", "atlas"), ("tasks", "lss"), ("languages", "fr")):
        result = call("list", kind, "--server", server.url, "--json")
        assert result.exit_code == 0, result.output
        assert known in [json.loads(line)["id"] for line in result.stdout.splitlines()]


@pytest.mark.processes
def test_a_server_lists_its_neuron_sets_and_sweeps(server: ServerProcess, spec: dict[str, Any]) -> None:
    with Client(server.url) as client:
        neuron_set_id = client.create_neuron_set("tiny", {"fr": {"0": [1, 2]}})["id"]
        sweep = client.submit(spec)
    for kind, known in (("neurons", neuron_set_id), ("sweeps", sweep.id)):
        for options in ((), ("--json",)):
            result = call("list", kind, "--server", server.url, *options)
            assert result.exit_code == 0, result.output
            assert known in result.stdout
