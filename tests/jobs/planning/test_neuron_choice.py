from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ampsweep.domain.neurons.neuron_set import IdentificationRequest
from ampsweep.errors import DamagedFile, InvalidRequest, UnknownName
from ampsweep.folders.corpus import Corpus
from ampsweep.folders.model import fingerprint
from engine.neurons.neuron_set import NeuronSet, PatchValues
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.neuron_choice import NeuronChoice, resolve_neurons
from jobs.planning.planner import plan
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import raw_spec
from tests.jobs.neuron_sets.test_registry import save_set

LAPE: dict[str, object] = {"method": "lape", "corpus": "small", "languages": ["en", "fr", "tr"]}


@pytest.fixture
def sets(tmp_path: Path) -> NeuronSets:
    return NeuronSets(tmp_path / "neurons")


def choose(sets: NeuronSets, catalog: Catalog, neurons: dict[str, object]) -> NeuronChoice:
    spec = parse_spec(raw_spec(neurons=neurons))
    return resolve_neurons(spec.neurons, catalog.model("tiny"), catalog, sets)["corrected"]


def test_a_set_is_chosen_by_its_id(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog, patch=False)
    choice = choose(sets, catalog, {"id": "ns_1"})
    assert (choice.ref.id, choice.ref.method, choice.languages, choice.patches) == ("ns_1", None, ("en", "fr"), ())


def test_a_set_with_mean_activations_alone_has_the_patch_values_that_follow_from_them(
    sets: NeuronSets, catalog: Catalog
) -> None:
    save_set(sets, catalog)
    complete = NeuronSet.load(sets.folder / "ns_1")
    assert complete.patch is not None
    replace(complete, patch=PatchValues(mean=complete.patch.mean)).save(sets.folder / "ns_1")

    def planned(patch: str) -> int:
        interventions = {"languages": ["fr"], "op": "add", "patch": patch}
        return len(plan(parse_spec(raw_spec(neurons={"id": "ns_1"}, interventions=interventions)), catalog, sets))

    assert planned("mean") == planned("difference") > 0
    with pytest.raises(InvalidRequest, match="no patch values max, only mean") as refused:
        planned("max")
    assert refused.value.param == "interventions.patch"


def test_an_unknown_set_is_rejected_with_the_valid_ones(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog)
    with pytest.raises(UnknownName, match="known: ns_1") as caught:
        choose(sets, catalog, {"id": "ns_2"})
    assert caught.value.param == "neurons.id"


def test_a_set_of_another_model_is_refused(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog, model_fingerprint="f" * 64)
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
        ({"method": "average_precision", "k": 5}, {"neurons": 5}),
        ({"method": "average_precision"}, {"neurons": 1}),
        ({"method": "random", "seed": 3}, {"seed": 3}),
    ],
)
def test_the_id_of_a_set_is_known_before_it_is_identified(
    sets: NeuronSets, catalog: Catalog, neurons: dict[str, object], params: dict[str, float]
) -> None:
    ref = choose(sets, catalog, {"corpus": "small", "languages": ["tr", "en"], **neurons}).ref
    corpus = Corpus.open(catalog.corpora["small"], languages=["en", "tr"])
    request = IdentificationRequest.of(str(neurons["method"]), params)
    model = fingerprint(catalog.models["tiny"])
    assert ref.id == request.neuron_set_id(fingerprint=model, corpus_hash=corpus.hash, languages=corpus.languages)
    assert ref.params == request.params
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
    existing = plan(
        parse_spec(raw_spec(neurons={"id": "ns_1"}, interventions={"op": "scale", "factors": [2]})), catalog, sets
    )
    assert existing.warnings[0].startswith("neurons: lape compares languages, and 2 (en, fr) are few")
    independent = parse_spec(
        raw_spec(neurons={"method": "activated", "corpus": "small", "languages": ["en", "fr", "tr"]})
    )
    assert plan(independent, catalog, sets).warnings == ()


def test_a_damaged_set_is_rejected_only_where_it_is_named(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog)
    (sets.folder / "ns_2").mkdir()
    (sets.folder / "ns_2" / "metadata.json").write_text("{")
    assert choose(sets, catalog, {"id": "ns_1"}).patches == ("max", "median", "mean")
    with pytest.raises(DamagedFile, match=r"metadata\.json of neuron set ns_2 cannot be read"):
        choose(sets, catalog, {"id": "ns_2"})
    with pytest.raises(UnknownName, match=r"known: ns_1\. Did you mean"):
        choose(sets, catalog, {"id": "ns_3"})


def test_modes_share_an_existing_set_and_identify_sets_of_their_own(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog)
    model = catalog.model("tiny")
    by_id = parse_spec(raw_spec(neurons={"id": "ns_1"})).neurons
    existing = resolve_neurons(by_id, model, catalog, sets, modes=("corrected", "paper"))
    assert existing["corrected"] is existing["paper"]
    by_method = parse_spec(raw_spec(neurons=LAPE)).neurons
    identified = resolve_neurons(by_method, model, catalog, sets, modes=("corrected", "paper"))
    assert {mode: choice.ref.method for mode, choice in identified.items()} == {
        "corrected": "lape",
        "paper": "lape_paper",
    }
    assert identified["corrected"].ref.id != identified["paper"].ref.id


def test_a_corpus_is_opened_once_for_all_modes(
    sets: NeuronSets, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    original = Corpus.open

    def count(folder: Path, **options: object) -> Corpus:
        opened.append(folder)
        return original(folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Corpus, "open", count)
    neurons = parse_spec(raw_spec(neurons=LAPE)).neurons
    resolve_neurons(neurons, catalog.model("tiny"), catalog, sets, modes=("corrected", "paper"))
    assert opened == [catalog.corpora["small"]]
