"""The lists of what an installation offers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ampsweep.bundled import ATLAS_CORPUS, ATLAS_FOLDER, ATLAS_MODEL
from jobs.data.hub import HubData
from jobs.planning.catalog import Catalog
from jobs.planning.offers import OFFERS
from jobs.tasks.registry import BUILT_IN_TASKS

CATALOG = Catalog(models={"atlas": ATLAS_MODEL}, corpora={"atlas": ATLAS_CORPUS}, atlas=ATLAS_FOLDER)


def test_the_bundled_model_corpus_and_languages_are_offered() -> None:
    assert OFFERS["models"](CATALOG) == [{"id": "atlas", "layers": 4, "adapters": []}]
    (corpus,) = OFFERS["corpora"](CATALOG)
    files = {path.name.split(".")[0] for path in ATLAS_CORPUS.glob("*.txt.gz")}
    assert (corpus["id"], set(corpus["languages"])) == ("atlas", files)
    by_code = {language["id"]: language for language in OFFERS["languages"](CATALOG)}
    assert by_code["fr"] == {
        "id": "fr",
        "name": "French",
        "flores": "fra_Latn",
        "corpora": ["atlas"],
        "tasks": ["lss"],
    }


def test_data_sets_are_local_or_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "xcopa").mkdir()
    local = replace(CATALOG, data=tmp_path)
    assert [offer["id"] for offer in OFFERS["data-sets"](local)] == ["atlas", "mine", "xcopa"]
    offers = {offer["id"]: offer for offer in OFFERS["data-sets"](replace(local, hub=HubData(cache=tmp_path)))}
    assert offers["xcopa"] == {"id": "xcopa", "local": True, "hub": "cambridgeltl/xcopa"}
    assert (offers["mine"]["hub"], offers["flores200"]["local"]) == (None, False)


def test_tasks_have_their_metrics_and_the_languages_of_local_data() -> None:
    tasks = {offer["id"]: offer for offer in OFFERS["tasks"](CATALOG)}
    assert set(BUILT_IN_TASKS) <= set(tasks)
    assert (tasks["lss"]["metrics"], tasks["lss"]["needs_target_language"]) == (["lss"], True)
    assert "fr" in tasks["lss"]["languages"]
    assert tasks["xcopa"]["languages"] is None, "its data are not here"


def test_a_damaged_corpus_and_model_are_listed_all_the_same(tmp_path: Path) -> None:
    catalog = Catalog(models={"broken": tmp_path}, corpora={"empty": tmp_path}, atlas=None)
    assert OFFERS["models"](catalog) == [{"id": "broken", "layers": None, "adapters": []}]
    assert OFFERS["corpora"](catalog) == [{"id": "empty", "languages": []}]
    assert OFFERS["languages"](catalog) == []
