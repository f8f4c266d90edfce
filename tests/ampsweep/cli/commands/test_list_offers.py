"""`ampsweep list`: what a spec can name, here and on a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.cli.commands.list_offers import KINDS
from ampsweep.client.api import Api
from jobs.planning.offers import OFFERS
from tests.ampsweep.client.server_process import ServerProcess


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_kinds_are_those_that_there_are() -> None:
    assert tuple(OFFERS) == KINDS
    assert {"models", *get_args(get_type_hints(Api.offers)["kind"])} == set(KINDS)


def test_each_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "fr.txt").write_text("Bonjour.\n")
    result = call("list", "corpora", "--corpus", f"mine={tmp_path}")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["atlas", "mine"]
    assert result.stdout.splitlines()[1] == f"{'mine':<20} languages fr"
    tasks = [json.loads(line) for line in call("list", "tasks", "--json").stdout.splitlines()]
    assert "lss" in [task["id"] for task in tasks]


def test_a_misspelt_kind_is_corrected() -> None:
    result = call("list", "lanugages")
    assert (result.exit_code, "Did you mean 'languages'?" in result.stderr) == (2, True)


@pytest.mark.processes
def test_a_server_lists_its_own(server: ServerProcess) -> None:
    for kind, known in (("models", "tiny"), ("corpora", "atlas"), ("tasks", "lss"), ("languages", "fr")):
        result = call("list", kind, "--server", server.url, "--json")
        assert result.exit_code == 0, result.output
        assert known in [json.loads(line)["id"] for line in result.stdout.splitlines()]
