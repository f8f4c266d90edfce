"""Models by their names on the Hub, out of a cache as the Hub's library leaves it, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from ampsweep.errors import InvalidRequest
from ampsweep.folders.hub_model import fetch_model, is_hub_name, source_of
from ampsweep.folders.model import read_model_folder
from ampsweep.settings import read_settings
from jobs.catalog import Catalog

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache of a machine that fetched one model and is offline now."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repo = tmp_path / "hub" / "models--org--tiny"
    snapshot, blobs = repo / "snapshots" / COMMIT, repo / "blobs"
    for folder in (snapshot, blobs, repo / "refs"):
        folder.mkdir(parents=True)
    for name, content in {
        "config.json": json.dumps({"num_hidden_layers": 3, "intermediate_size": 96}),
        "model.safetensors": "weights",
        "tokenizer.json": "{}",
    }.items():
        (blobs / f"blob-{name}").write_text(content)
        (snapshot / name).symlink_to(blobs / f"blob-{name}")
    for ref in ("main", "v1"):
        (repo / "refs" / ref).write_text(COMMIT)
    fetch_model.cache_clear()
    yield snapshot
    fetch_model.cache_clear()


@pytest.mark.parametrize("name", ["org/tiny", "org/tiny@v1", f"org/tiny@{COMMIT}"])
def test_a_name_leads_to_the_folder_of_its_commit(name: str, cached: Path) -> None:
    assert fetch_model(name) == cached
    found = read_model_folder(fetch_model(name), name="tiny")
    assert (found.layers, found.width) == (3, 96)
    assert found.source == f"org/tiny@{COMMIT}"


def test_a_revision_is_resolved_once(cached: Path) -> None:
    assert fetch_model("org/tiny") == cached
    (cached.parents[1] / "refs" / "main").write_text("f" * 40)
    assert fetch_model("org/tiny") == cached


@pytest.mark.parametrize("name", ["org/other", "org/tiny@v2"])
def test_what_cannot_be_fetched_says_what_to_do(name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"the model {name} could not be fetched .* or give a folder"):
        fetch_model(name)


def test_a_server_offers_it_by_a_name_of_its_own(cached: Path) -> None:
    settings = read_settings(models=["small=org/tiny@v1"])
    assert settings.served()["small"].path == cached
    with pytest.raises(InvalidRequest, match="could not be fetched") as caught:
        read_settings(models=["small=org/other"])
    assert caught.value.param == "models.small"


def test_a_name_of_the_hub_is_a_model_only_where_local_models_are(cached: Path) -> None:
    assert Catalog(models={}, local_models=True).model_path("org/tiny") == cached
    with pytest.raises(InvalidRequest, match="unknown model"):
        Catalog(models={}).model_path("org/tiny")


def test_other_folders_and_paths_are_not_of_the_hub(tmp_path: Path) -> None:
    assert source_of(tmp_path) is None
    assert not any(map(is_hub_name, ("tiny", "/srv/models/tiny", "../tiny", "a/b/c", "org/tiny@", "org/tiny@../x")))
