"""Models by their names on the Hub, read from a local cache without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest

from ampsweep.cli.server.settings import read_settings
from ampsweep.errors import InvalidRequest
from ampsweep.folders.hub_model import fetch_model, is_hub_name, source_of
from ampsweep.folders.model import read_model_folder
from jobs.cell import Cell
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.results.finalization.assembly import sources_of
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import raw_spec, write_catalog

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
    model = read_model_folder(fetch_model(name), name="tiny")
    assert (model.layers, model.width) == (3, 96)
    assert model.source == f"org/tiny@{COMMIT}"


def test_a_revision_is_resolved_once(cached: Path) -> None:
    assert fetch_model("org/tiny") == cached
    (cached.parents[1] / "refs" / "main").write_text("f" * 40)
    assert fetch_model("org/tiny") == cached


@pytest.mark.parametrize("name", ["org/other", "org/tiny@v2"])
def test_a_failed_download_is_an_error_with_a_remedy(name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"the model {name} could not be fetched .* or give a folder"):
        fetch_model(name)


def test_a_snapshot_in_which_a_file_was_replaced_is_not_that_commit(cached: Path) -> None:
    (cached / "tokenizer.json").unlink()
    (cached / "tokenizer.json").write_text('{"mine": true}')
    assert source_of(cached) is None


def test_a_folder_named_as_a_snapshot_is_no_commit(cached: Path) -> None:
    assert source_of(cached.rename(cached.parent / "main")) is None


def test_only_one_form_of_a_model_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    published = [
        *("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"),
        *("consolidated.safetensors", "consolidated.safetensors.index.json", "params.json"),
        *("original/params.json", "onnx/config.json", "modeling.py", "additional_chat_templates/tools.jinja"),
    ]
    fetched: list[str] = []

    def download(repo: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        fetched.extend(
            name
            for name in published
            if any(fnmatch(name, pattern) for pattern in allow_patterns)
            and not any(fnmatch(name, pattern) for pattern in ignore_patterns)
        )
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    fetch_model("org/mistral")
    assert fetched == [*published[:4], "additional_chat_templates/tools.jinja"]


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


def test_the_commit_stands_in_the_cells_and_among_the_sources_of_a_sweep(tmp_path: Path) -> None:
    catalog = replace(write_catalog(tmp_path / "catalog"), local_models=True)
    cells = [
        plan(parse_spec(raw_spec(model=model)), catalog, NeuronSets(tmp_path))[0]
        for model in ("org/tiny@v1", "org/tiny", "tiny")
    ]
    assert [cell.model_source for cell in cells] == [f"org/tiny@{COMMIT}"] * 2 + [None]
    assert cells[0].id == cells[1].id, "the same model by two names"
    assert sources_of(cells[:1])["models"] == [
        {"name": "org/tiny@v1", "source": f"org/tiny@{COMMIT}", "sha256": cells[0].model_hash}
    ]
    assert Cell.from_dict(json.loads(json.dumps(cells[0].to_dict()))) == cells[0]
