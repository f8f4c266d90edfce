"""`ampsweep neurons default`: the set for requests that name none, and how responses name it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ampsweep import Client
from ampsweep.cli.app import app
from ampsweep.errors import InvalidRequest
from tests.ampsweep.client.server_process import ServerProcess, server_process

pytestmark = pytest.mark.processes

STEERED = {"languages": ["fr"], "op": "scale", "factor": 2.0}


@pytest.fixture(scope="module")
def own_server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose neuron sets are this file's alone."""
    with server_process(model, tmp_path_factory.mktemp("home")) as running:
        yield running


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_default_is_shown_set_and_cleared_and_steers(own_server: ServerProcess) -> None:
    where = ("--server", own_server.url)
    with Client(own_server.url) as client:
        first, second = (
            client.create_neuron_set("tiny", {"fr": {"0": [index]}, "tr": {"1": [4]}})["id"] for index in (1, 2)
        )
        with pytest.raises(InvalidRequest, match="several neuron sets") as refused:
            client.complete("tiny", "Hello", intervention=STEERED)
        assert refused.value.param == "neurons"
        shown = call("neurons", "default", "tiny", *where)
        assert (shown.exit_code, shown.stdout) == (
            0,
            "tiny  no default: requests that steer must name a neuron set\n",
        )
        default = json.loads(call("neurons", "default", "tiny", first, *where, "--json").stdout)
        assert (default["neuron_set"], default["source"]) == (first, "operator")
        assert client.default_neuron_set("tiny") == default
        answer = client.complete("tiny", "Hello", intervention=STEERED, max_tokens=3)
        pieces = list(client.stream("tiny", "Hello", intervention=STEERED, max_tokens=3))
        assert {answer.neuron_set, *(piece.neuron_set for piece in pieces)} == {first}
        chat = client.chat("tiny", [{"role": "user", "content": "Hi"}], intervention=STEERED, neurons=second)
        assert chat.neuron_set == second
        assert client.complete("tiny", "Hello", max_tokens=3).neuron_set is None
    steer = ("generate", "Hello", "--model", "tiny", "--languages", "fr", "--factor", 2, "--max-tokens", 3, *where)
    result = call(*steer)
    assert result.exit_code == 0, result.output
    assert result.stderr == f"steered by neuron set {first}\n"
    assert json.loads(call(*steer, "--json").stdout)["neuron_set"] == first
    assert "not both" in call("neurons", "default", "tiny", first, "--clear", *where).stderr
    assert "no default" in call("neurons", "default", "tiny", "--clear", *where).stdout
    ambiguous = call(*steer)
    assert ambiguous.exit_code == 2
    assert first in ambiguous.stderr
    assert second in ambiguous.stderr
