from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ampsweep.domain.neuron_set import IdentificationRequest
from ampsweep.errors import DamagedFile, InvalidRequest, NotFound, UnknownName
from ampsweep.folders.corpus import Corpus
from ampsweep.folders.model import fingerprint
from engine.neurons.neuron_set import NeuronSet, PatchValues
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.neuron_choice import NeuronChoice, resolve_neurons
from jobs.planning.planner import plan
from jobs.spec import parse_spec
from tests.jobs.cluster import raw_spec


def save_set(
    sets: NeuronSets, catalog: Catalog, *, name: str = "ns_1", patch: bool = True, mark: str = ""
) -> NeuronSet:
    """A set as the engine writes it: no neurons in English, one in French."""
    values = np.zeros((2, 3, 8), np.float32)
    made = NeuronSet(
        id="ns_1",
        model="tiny",
        fingerprint=mark or catalog.model("tiny").fingerprint,
        layers=3,
        width=8,
        method="lape",
        corpus="small",
        neurons={"en": np.zeros((0, 2), np.int32), "fr": np.array([[0, 1]], np.int32)},
        patch=PatchValues(max=values, median=values, mean=values) if patch else None,
    )
    made.save(sets.folder / made.id)
    return made


@pytest.fixture
def sets(tmp_path: Path) -> NeuronSets:
    return NeuronSets(tmp_path / "neurons")


def test_what_the_engine_saves_is_listed(sets: NeuronSets, catalog: Catalog) -> None:
    assert sets.infos() == []
    saved = save_set(sets, catalog)
    info = sets.get("ns_1")
    assert sets.infos() == [info]
    assert (info.languages, info.layers, info.width) == ({"en": 0, "fr": 1}, saved.layers, saved.width)
    assert (info.model, info.method, info.patch) == ("tiny", "lape", ("max", "median", "mean"))
    assert sets.path("ns_1").is_dir()


@pytest.mark.parametrize("name", ["", "ns_", "ns_../..", "/etc", "ns_a/b", "ns_a\n"])
def test_what_cannot_be_an_id_never_touches_the_disk(sets: NeuronSets, name: str) -> None:
    with pytest.raises(NotFound, match="is not the id"):
        sets.get(name)


def test_an_unknown_id_is_not_found(sets: NeuronSets) -> None:
    with pytest.raises(NotFound, match="no neuron set ns_9"):
        sets.get("ns_9")


def test_damaged_metadata_is_said_to_be(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog)
    (sets.path("ns_1") / "metadata.json").write_text("{}")
    with pytest.raises(DamagedFile, match="ns_1"):
        sets.get("ns_1")


def choose(sets: NeuronSets, catalog: Catalog, neurons: dict[str, object]) -> NeuronChoice:
    spec = parse_spec(raw_spec(neurons=neurons))
    return resolve_neurons(spec.neurons, catalog.model("tiny"), catalog, sets)["corrected"]


def test_a_set_is_chosen_by_its_id(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog, patch=False)
    choice = choose(sets, catalog, {"id": "ns_1"})
    assert (choice.ref.id, choice.ref.method, choice.languages, choice.has_patch) == ("ns_1", None, ("en", "fr"), False)


def test_an_unknown_set_is_answered_with_the_known_ones(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog)
    with pytest.raises(UnknownName, match="known: ns_1") as caught:
        choose(sets, catalog, {"id": "ns_2"})
    assert caught.value.param == "neurons.id"


def test_a_set_of_another_model_is_refused(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog, mark="f" * 64)
    with pytest.raises(InvalidRequest, match="made for another model") as caught:
        choose(sets, catalog, {"id": "ns_1"})
    assert caught.value.param == "neurons.id"


@pytest.mark.parametrize(
    ("neurons", "params"),
    [
        ({"method": "lape", "top_rate": 0.5}, {"top_rate": 0.5}),
        ({"method": "activated"}, {}),
        ({"method": "act_prob", "k": 5}, {"neurons": 5}),
        ({"method": "act_prob"}, {}),
        ({"method": "random", "seed": 3}, {"seed": 3}),
    ],
)
def test_the_id_of_a_set_to_be_found_is_the_one_it_will_have(
    sets: NeuronSets, catalog: Catalog, neurons: dict[str, object], params: dict[str, float]
) -> None:
    ref = choose(sets, catalog, {"corpus": "small", "languages": ["tr", "en"], **neurons}).ref
    corpus = Corpus.open(catalog.corpora["small"], languages=["en", "tr"])
    asked = IdentificationRequest.of(str(neurons["method"]), params)
    model = fingerprint(catalog.models["tiny"])
    assert ref.id == asked.neuron_set_id(fingerprint=model, corpus_hash=corpus.hash, languages=corpus.languages)
    assert ref.params == asked.params
    assert (ref.corpus, ref.languages) == ("small", ("en", "tr"))


def test_a_language_that_the_corpus_lacks_is_named(sets: NeuronSets, catalog: Catalog) -> None:
    with pytest.raises(UnknownName, match="known: en, fr, tr, zh") as caught:
        choose(sets, catalog, {"method": "lape", "corpus": "small", "languages": ["en", "it"]})
    assert caught.value.param == "neurons.languages.1"


@pytest.mark.parametrize("method", ["lape", "random"])
def test_lape_and_its_control_need_two_languages(sets: NeuronSets, catalog: Catalog, method: str) -> None:
    with pytest.raises(InvalidRequest, match="at least two") as caught:
        choose(sets, catalog, {"method": method, "corpus": "small", "languages": ["en"]})
    assert caught.value.param == "neurons.languages"


def test_a_plan_warns_where_few_languages_are_compared(sets: NeuronSets, catalog: Catalog) -> None:
    few = plan(parse_spec(raw_spec()), catalog, sets)
    assert few.warnings[0].startswith("neurons: lape compares languages, and 3 (en, fr, tr) are few")
    save_set(sets, catalog)
    known = plan(
        parse_spec(raw_spec(neurons={"id": "ns_1"}, interventions={"op": "scale", "factors": [2]})), catalog, sets
    )
    assert known.warnings[0].startswith("neurons: lape compares languages, and 2 (en, fr) are few")
    always = parse_spec(raw_spec(neurons={"method": "activated", "corpus": "small", "languages": ["en", "fr", "tr"]}))
    assert plan(always, catalog, sets).warnings == ()


def test_a_damaged_set_is_refused_only_where_it_is_asked_for(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog)
    (sets.folder / "ns_2").mkdir()
    (sets.folder / "ns_2" / "metadata.json").write_text("{")
    assert choose(sets, catalog, {"id": "ns_1"}).has_patch
    with pytest.raises(DamagedFile, match=r"metadata\.json of neuron set ns_2 cannot be read"):
        choose(sets, catalog, {"id": "ns_2"})
    with pytest.raises(UnknownName, match=r"known: ns_1$"):
        choose(sets, catalog, {"id": "ns_3"})
