from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest, UnknownName
from jobs.planning.catalog import Catalog


@pytest.mark.parametrize(
    ("look_up", "param", "names"),
    [
        (lambda c: c.model_path("big"), "model", "tiny"),
        (lambda c: c.corpus("big"), "neurons.corpus", "small"),
        (lambda c: c.data_set("big", param="tasks.0.data"), "tasks.0.data", "atlas, xcopa"),
    ],
)
def test_an_unknown_name_is_rejected_with_the_valid_ones(
    catalog: Catalog, look_up: Any, param: str, names: str
) -> None:
    with pytest.raises(UnknownName, match=f"known: {names}") as caught:
        look_up(catalog)
    assert caught.value.param == param


def test_without_a_corpus_of_ones_own_the_error_says_how_to_name_it(catalog: Catalog) -> None:
    with pytest.raises(
        UnknownName, match=r"known: atlas; name the folder of one of your own with --corpus NAME=FOLDER"
    ):
        replace(catalog, corpora={"atlas": Path("atlas")}).corpus("mine")
    with pytest.raises(UnknownName, match=r"known: small$"):
        catalog.corpus("mine")


def test_a_name_never_becomes_a_path(catalog: Catalog) -> None:
    folder = str(catalog.models["tiny"])
    with pytest.raises(UnknownName):
        catalog.model_path(folder)
    with pytest.raises(UnknownName):
        catalog.data_set("../data/xcopa")
    with pytest.raises(UnknownName):
        catalog.corpus(str(catalog.corpora["small"]))


def test_a_local_folder_is_a_model_where_that_is_allowed(catalog: Catalog) -> None:
    folder = catalog.models["tiny"]
    assert replace(catalog, local_models=True).model_path(str(folder)) == folder


def test_without_data_there_are_no_data_sets() -> None:
    assert Catalog(models={}).data_sets() == {}


def test_hidden_folders_are_no_data_sets(tmp_path: Path) -> None:
    for name in ("mine", ".git"):
        (tmp_path / name).mkdir()
    assert Catalog(models={}, data=tmp_path).data_sets() == {"mine": tmp_path / "mine"}


def test_an_engine_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnknownName, match="fake, transformers, vllm"):
        Catalog(models={}, engine="abacus")  # type: ignore[arg-type]


def test_the_versions_of_an_engine_are_those_installed() -> None:
    assert "transformers==" in Catalog(models={}, engine="transformers").engine_version
    assert "torch==" in Catalog(models={}, engine="transformers").engine_version
    assert "torch" not in Catalog(models={}, engine="fake").engine_version


def test_batch_invariant_mode_is_part_of_what_an_answer_depends_on() -> None:
    plain, invariant = (Catalog(models={}, engine="fake", batch_invariant=mode) for mode in (False, True))
    assert invariant.engine_version == f"{plain.engine_version} batch-invariant"


def test_a_models_fingerprint_follows_what_decides_its_answers(catalog: Catalog) -> None:
    folder = catalog.models["tiny"]
    before = catalog.model("tiny")
    assert before.layers == 3
    (folder / "README.md").write_text("hello")
    assert catalog.model("tiny") == before
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert catalog.model("tiny").fingerprint != before.fingerprint


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="is not a model folder") as caught:
        Catalog(models={"broken": tmp_path}).model("broken")
    assert caught.value.param == "model"


def test_an_unknown_data_set_says_where_ones_own_must_be(tmp_path: Path) -> None:
    (tmp_path / "data" / "exam").mkdir(parents=True)
    for folder, name, remedy in (
        (None, "exam", "one of your own is a subfolder of the folder that --data names"),
        (tmp_path / "data" / "exam", "exam", "--data must name the folder that has exam in it"),
        (tmp_path / "data", "data/exam", "write its name alone: exam"),
    ):
        with pytest.raises(UnknownName) as refused:
            Catalog(models={}, data=folder).data_set(name)
        assert f"; {remedy}" in refused.value.message


def test_a_path_without_a_folder_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "gemma").mkdir(parents=True)
    with pytest.raises(
        InvalidRequest, match=r"no folder models/gema; did you mean models/gemma\?.* of the Hub as"
    ) as no:
        Catalog(models={"atlas": tmp_path}, local_models=True).model("models/gema")
    assert no.value.param == "model"
