"""FLORES and ISO 639-3 codes in a spec are the two-letter codes that they stand for, down to the ids of the cells."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from jobs.data.facts import read_facts
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.neuron_choice import resolve_neurons
from jobs.planning.planner import plan
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import raw_spec, write_facts, write_jsonl

LONG = {"en": "eng_Latn", "fr": "fra", "tr": "tur_Latn", "zh": "cmn_Hans"}
STEERED = {"op": "scale", "factor": 2}


def respelled(value: Any) -> Any:
    """A spec with each code, wherever it stands, as FLORES or ISO 639-3 has it."""
    if isinstance(value, dict):
        return {LONG.get(key, key): respelled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [LONG.get(each, each) if isinstance(each, str) else respelled(each) for each in value]
    return value


@pytest.mark.parametrize("targets", [["fr", "tr"], {"fr": 0.5, "tr": 1}])
def test_a_spec_in_long_codes_is_the_same_sweep(catalog: Catalog, tmp_path: Path, targets: Any) -> None:
    short = raw_spec()
    short["interventions"] |= {"languages": targets, "controls": ["other"]}
    short["tasks"][0]["targets"] = ["fr"]
    long = respelled(deepcopy(short))
    assert long != short
    assert parse_spec(long).to_dict() == parse_spec(short).to_dict()
    sets = NeuronSets(tmp_path / "sets")
    ids = [[cell.id for cell in plan(parse_spec(raw), catalog, sets)] for raw in (short, long)]
    assert ids[0] == ids[1]


def test_an_intervention_in_long_codes_is_the_same() -> None:
    raw = {"languages": {"deu_Latn": 0.5, "zho_Hant": 1}, "selection": "other", "other": "zsm_Latn", **STEERED}
    complete = Intervention.from_dict(raw).to_dict()
    assert complete["languages"] == {"de": 0.5, "zho_Hant": 1.0}
    assert complete["other"] == "ms"


@pytest.mark.parametrize("languages", [["fr", "fra_Latn"], {"fr": 1, "fra_Latn": 0.5}])
def test_one_language_under_two_codes_is_refused_by_both(languages: Any) -> None:
    with pytest.raises(InvalidRequest, match="fr and fra_Latn are one language") as refused:
        Intervention.from_dict({"languages": languages, **STEERED})
    assert refused.value.param == "intervention.languages"


def test_a_set_that_was_stored_under_long_codes_is_found_and_steers(catalog: Catalog, tmp_path: Path) -> None:
    sets = NeuronSets(tmp_path / "sets")
    metadata = {
        "format": 1,
        "id": "ns_old",
        "model": "tiny",
        "fingerprint": catalog.model("tiny").fingerprint,
        "layers": 3,
        "width": 8,
        "method": "imported",
        "params": {},
        "corpus": "",
        "corpus_hash": "",
        "sha256": "",
        "languages": {"eng_Latn": 2, "fra_Latn": 1},
        "patch": [],
    }
    (tmp_path / "sets" / "ns_old").mkdir(parents=True)
    (tmp_path / "sets" / "ns_old" / "metadata.json").write_text(json.dumps(metadata))
    assert sets.get("ns_old").languages == {"en": 2, "fr": 1}
    spec = raw_spec() | {"neurons": {"id": "ns_old"}}
    choice = resolve_neurons(parse_spec(spec).neurons, catalog.model("tiny"), catalog, sets)["corrected"]
    assert choice.languages == choice.ref.languages == ("en", "fr")


def test_facts_in_long_codes_are_the_same_facts(tmp_path: Path) -> None:
    short, long = write_facts(tmp_path / "short"), write_facts(tmp_path / "long")
    for name in ("facts", "templates"):
        rows = [json.loads(line) for line in (long / f"{name}.jsonl").read_text("utf-8").splitlines()]
        spelled = [respelled(row) | ({"language": LONG[row["language"]]} if "language" in row else {}) for row in rows]
        write_jsonl(long / f"{name}.jsonl", spelled)
    assert read_facts(long).facts == read_facts(short).facts
    assert read_facts(long).templates == read_facts(short).templates


def test_a_fact_with_a_language_twice_is_refused(tmp_path: Path) -> None:
    folder = write_facts(tmp_path / "facts")
    fact = json.loads((folder / "facts.jsonl").read_text("utf-8").splitlines()[0])
    fact["object"]["fra_Latn"] = "Paname"
    write_jsonl(folder / "facts.jsonl", [fact])
    with pytest.raises(InvalidRequest, match=r"facts\.jsonl.*object has a language twice: fr and fra_Latn"):
        read_facts(folder)
