"""Metadata that somebody has changed: the wrong field is named, and what is accepted can be written about."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.report.data import ReportData
from jobs.report.prose.methods import methods_paragraph
from jobs.report.sources.provenance import read_provenance
from tests.jobs.report.control_sweep import control_summary, write_sweep

SPEC: dict[str, Any] = {
    "name": "small",
    "model": "tiny",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr"], "top_rate": 0.05},
    "interventions": {
        "languages": {"fr": 0.5, "en": 1},
        "ops": [{"op": "set", "factors": [0.5, 2], "patch": ["max"]}, {"op": "scale", "statistic": "p99"}],
        "layers": [1, 2],
        "tokens": [None, {"end": 8}],
        "when": [None, "drift", {"drift": {"window": 90}}],
        "part": ["answer"],
        "controls": ["random"],
        "random_draws": 2,
        "non_target": {"op": "scale", "factor": 0},
        "baselines": ["prompt_en", {"method": "diffmean", "factors": [1.0], "layers": [3]}],
    },
    "tasks": [{"name": "lss", "languages": ["en"], "targets": ["fr"], "limit": 4, "split": "test", "facts": "any"}],
    "mode": ["corrected"],
    "search": {"method": "halving", "items": 8, "keep": 2},
    "seed": 4,
}
SOURCES: dict[str, list[Any]] = {
    "models": [{"name": "tiny", "source": None, "sha256": "a" * 64}],
    "engines": [{"name": "vllm", "versions": "vllm==0.32.0", "dtype": "float32"}],
    "neurons": ["ns_1"],
    "data": [
        {"task": "lss", "version": 1, "data": "facts", "split": None, "language": "en", "sha256": "b" * 64}
        | {"plugins": ["own 1.0"]}
    ],
    "adapters": [{"name": "formal", "sha256": "c" * 64}],
    "identifiers": ["py3langid 1"],
}
CONTENT: dict[str, Any] = {
    "spec": SPEC,
    "versions": [{"ampsweep": "0.1.0", "torch": "2.13.0"}],
    "failed_cells": {"cell_1": "out of memory"},
    "sources": SOURCES,
    "warnings": ["tasks.0: few facts"],
    "partial": {"status": "paused", "total": 9, "included": 5, "failed": 1, "missing": 3},
}
OTHERS: Sequence[Any] = (None, True, -1, 0.5, "other", [], [None], ["other"], {}, {"other": 1})


def metadata(content: Mapping[str, Any]) -> dict[str, str]:
    values = {f"ampsweep.{name}": json.dumps(value) for name, value in content.items()}
    return {"ampsweep.sweep_id": "swp_1", "ampsweep.version": "0.1.0", **values}


def changed(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the value with each of its parts replaced by something else, or left out, and the path of the part."""
    if path:
        yield from ((path, other) for other in OTHERS)
    parts = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, part in list(parts):
        for inner, replaced in changed(part, (*path, str(key))):
            copied = value.copy()
            copied[key] = replaced
            yield inner, copied
        if isinstance(value, dict):
            yield (*path, str(key)), {name: other for name, other in value.items() if name != key}


def test_what_was_written_is_read() -> None:
    provenance = read_provenance(metadata(CONTENT), name="results.parquet", files={"results.parquet": "d" * 64})
    assert (provenance.spec, provenance.sources) == (SPEC, SOURCES)
    assert (provenance.sweep_id, provenance.version) == ("swp_1", "0.1.0")
    assert (provenance.versions, provenance.failed_cells) == (CONTENT["versions"], CONTENT["failed_cells"])
    assert (provenance.warnings, provenance.partial) == (("tasks.0: few facts",), CONTENT["partial"])
    assert provenance.files == {"results.parquet": "d" * 64}


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("/home/ada/models/gemma-3-270m", "gemma-3-270m"),
        ("../models/gemma/", "gemma"),
        ("google/gemma-3-270m@main", "google/gemma-3-270m@main"),
        ("/", "/"),
        (f"/home/ada/.cache/hub/models--google--gemma-3/snapshots/{'c' * 40}", "google/gemma-3"),
    ],
)
def test_folders_of_the_author_are_left_out(model: str, shown: str) -> None:
    sources = {**SOURCES, "models": [{"name": model, "source": None, "sha256": "a" * 64}]}
    content = {**CONTENT, "spec": {**SPEC, "model": model}, "sources": sources}
    provenance = read_provenance(metadata(content), name="results.parquet", files={})
    assert (provenance.spec["model"], provenance.sources["models"][0]["name"]) == (shown, shown)
    assert f" of model {shown} (SHA-256 " in methods_paragraph(provenance, samples=1, signatures=())


@pytest.mark.parametrize(
    ("model", "shown", "origin"),
    [
        (f"/cache/models--google--gemma-3/snapshots/{'c' * 40}", f"google/gemma-3@{'c' * 40}", ""),
        ("google/gemma-3@main", "google/gemma-3@main", f"google/gemma-3@{'c' * 40} of the Hugging Face Hub; "),
        ("small", "small", f"google/gemma-3@{'c' * 40} of the Hugging Face Hub; "),
    ],
)
def test_a_model_of_the_hub_has_its_repository_and_its_commit(model: str, shown: str, origin: str) -> None:
    named = {"name": model, "source": f"google/gemma-3@{'c' * 40}", "sha256": "a" * 64}
    content = {**CONTENT, "spec": {**SPEC, "model": model}, "sources": {**SOURCES, "models": [named]}}
    provenance = read_provenance(metadata(content), name="results.parquet", files={})
    assert (provenance.spec["model"], provenance.sources["models"][0]["name"]) == (shown, shown)
    assert f" of model {shown} ({origin}SHA-256 " in methods_paragraph(provenance, samples=1, signatures=())


def test_any_change_is_refused_by_its_field_or_can_be_written_about() -> None:
    refused: list[tuple[str, InvalidRequest]] = []
    for path, content in changed(CONTENT):
        try:
            provenance = read_provenance(metadata(content), name="results.parquet", files={})
        except InvalidRequest as error:
            refused.append((path[0], error))
        else:
            assert methods_paragraph(provenance, samples=1, signatures=()).startswith("Sweep swp_1 of model ")
    assert len(refused) > 500, "most changes cannot be read"
    assert all(error.param == "sweep" and field in error.message for field, error in refused)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"spec": None}, "spec: must be an object of keys and values; got None"),
        ({"sources": {**SOURCES, "models": ["tiny"]}}, "sources.models.0: must be an object of keys and values"),
        ({"versions": {"torch": "2.13.0"}}, "versions: input should be a valid list"),
        ({"spec": {**SPEC, "neurons": {"method": "lape"}}}, "spec.neurons: must have an id, or a method, a corpus"),
    ],
)
def test_a_field_of_another_form_is_named(content: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_provenance(metadata({**CONTENT, **content}), name="results.parquet", files={})
    assert f"results.parquet was changed after it was written: in its metadata, {message}" in refused.value.message
    assert refused.value.message.endswith("; give the file as Ampsweep wrote it")


def test_a_key_that_is_missing_or_is_no_json_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"ampsweep\.sources is missing\); run the sweep again"):
        read_provenance(metadata({"spec": SPEC, "versions": [], "failed_cells": {}}), name="r.parquet", files={})
    with pytest.raises(
        InvalidRequest, match=r"ampsweep\.spec in its metadata is not JSON \(.*give the file as Ampsweep"
    ):
        read_provenance({**metadata(CONTENT), "ampsweep.spec": "{"}, name="r.parquet", files={})


def test_the_report_names_the_file(tmp_path: Path) -> None:
    write_sweep(tmp_path, control_summary(("fr",)))
    path = tmp_path / "results.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"ampsweep.spec": b"[]"}), path)
    with pytest.raises(InvalidRequest, match=r"results\.parquet was changed .* spec: must be an object"):
        ReportData(tmp_path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"ampsweep.spec": b"\xff"}), path)
    with pytest.raises(InvalidRequest, match=r"results\.parquet was changed .* not UTF-8"):
        ReportData(tmp_path)
