"""Fixtures of the client's and the command line's tests: a model for the fake engine, a real server."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from tests.ampsweep.client.server_process import ServerProcess, server_process

SPEC: dict[str, Any] = {
    "name": "first-look",
    "model": "tiny",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "tr"]},
    "interventions": {"languages": ["fr", "tr"], "op": "set", "patch": ["max"], "factors": [0.5, 2.0]},
    "tasks": [{"name": "lss", "languages": ["en"], "limit": 4}],
}
CELLS = 6  # two targets, each with a baseline and two factors


@pytest.fixture(scope="session", autouse=True)
def _commands_are_built_once() -> Iterator[None]:
    """Let Typer's runner build the commands once, not at every call: that takes longer than most calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", cache(get_command))
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the fake engine takes for a model."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 4, "intermediate_size": 32}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`ampsweep serve` with the fake engine."""
    with server_process(model, tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def hangups_are_handled() -> Iterator[None]:
    """Let child processes heed SIGHUP, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def spec() -> dict[str, Any]:
    """A small sweep."""
    return copy.deepcopy(SPEC)


@pytest.fixture
def local(spec: dict[str, Any], model: Path, tmp_path: Path) -> Path:
    """A spec file whose model is a folder."""
    path = tmp_path / "local.yaml"
    path.write_text(yaml.safe_dump({**spec, "model": str(model)}))
    return path
