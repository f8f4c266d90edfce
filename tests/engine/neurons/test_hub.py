"""Neuron sets on a Hub in this process, by the command line in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ampsweep.errors import InvalidRequest, NotFound
from engine.neurons.hub import pull, push
from engine.neurons.neuron_set import NeuronSet
from tests.engine.neuron_sets import make_neuron_set
from tests.fake_hub import TOKEN, FakeHub, fake_hub

pytestmark = pytest.mark.processes

FILES = {"metadata.json", "neurons.safetensors"}


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with fake_hub() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A neuron set, and beside it a file that is none of its own."""
    make_neuron_set({"fr": [(0, 1), (2, 7)], "tr": [(1, 3)]}).save(tmp_path / "set")
    (tmp_path / "set" / "notes.pkl").write_bytes(b"mine")
    return tmp_path / "set"


def call(hub: FakeHub, home: Path, *arguments: object, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """Run a command of `ampsweep neurons` with the Hub's address in the environment."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HOME": str(home / "hub")}
    command = [sys.executable, "-m", "ampsweep.cli", "neurons", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_set_that_was_pushed_is_pulled_as_it_was(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    pushed = call(hub, tmp_path, "push", folder, "org/set", "--json")
    assert pushed.returncode == 0, pushed.stderr
    assert json.loads(pushed.stdout) == {
        "repository": "org/set",
        "commit": f"{hub.url}/org/set/commit/{hub.commit('org/set')}",
    }
    assert set(hub.repos["org/set"]) == FILES, "no other file of the folder is uploaded"
    original = NeuronSet.load(folder)
    assert hub.commits[-1] == f"Add neuron set {original.id}"
    hub.repos["org/set"]["evil.pkl"] = b"code"
    pulled = call(hub, tmp_path, "pull", "org/set", "--out", tmp_path / "out", "--json")
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(pulled.stdout)["languages"] == {"fr": 2, "tr": 1}
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert not list((tmp_path / "hub").rglob("evil.pkl")), "it is not even downloaded"
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_what_the_hub_refuses_or_lacks_is_an_error_with_the_remedy(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    refused = call(hub, tmp_path, "push", folder, "org/refused", token="hf_wrong")
    assert refused.returncode == 2
    assert "set HF_TOKEN to a token that may write" in refused.stderr
    missing = call(hub, tmp_path, "pull", "org/missing", "--out", tmp_path / "out")
    assert missing.returncode == 2
    assert "org/missing could not be fetched from the Hub" in missing.stderr
    assert not (tmp_path / "out").exists()


def test_a_hub_that_cannot_be_reached_is_an_error_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise httpx.ConnectError("name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", unreachable)
    with pytest.raises(InvalidRequest, match="name or service not known; check the connection") as refused:
        push(folder, "org/set")
    assert refused.value.param == "name"


def test_files_that_do_not_match_are_refused(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    hub.repos["org/damaged"] = {name: (folder / name).read_bytes() for name in FILES}
    hub.repos["org/damaged"]["neurons.safetensors"] += b"x"
    damaged = call(hub, tmp_path, "pull", "org/damaged", "--out", tmp_path / "out")
    assert damaged.returncode != 0
    assert "does not have the hash that metadata.json gives" in damaged.stderr
    hub.repos["org/model"] = {"config.json": b"{}"}
    other = call(hub, tmp_path, "pull", "org/model", "--out", tmp_path / "out")
    assert other.returncode == 3
    assert "the repository org/model has no neuron set" in other.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["set", "a/b/c", "org/set@", "../up/x", "org/my--set"])
def test_a_name_must_be_that_of_a_repository(name: str, folder: Path) -> None:
    for attempt in (lambda: pull(name), lambda: push(folder, name)):
        with pytest.raises(InvalidRequest) as caught:
            attempt()
        assert caught.value.param == "name"


def test_a_set_is_pushed_to_the_main_branch_and_from_a_folder_that_has_one(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="leave out @v1"):
        push(folder, "org/set@v1")
    with pytest.raises(NotFound):
        push(tmp_path, "org/set")
