"""The neuron set of requests that name none: an operator sets it, and it never changes by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampsweep.errors import DamagedFile, InvalidRequest, NotFound
from engine.neurons.formats.neuron_json import from_json
from jobs.neuron_sets.bucket import neuron_sets_at
from jobs.neuron_sets.default import chosen_neuron_set, default_neuron_set, set_default_neuron_set
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from tests.jobs.cluster import write_model


def publish(sets: NeuronSets, catalog: Catalog, *, neuron: int, model: str = "tiny") -> str:
    neuron_set = from_json({"fr": {"0": [neuron]}}, model=catalog.model(model))
    sets.publish(neuron_set.id, neuron_set.save)
    return neuron_set.id


def test_the_only_set_is_used_and_a_second_one_makes_it_ambiguous(address: str, catalog: Catalog) -> None:
    sets, mark = neuron_sets_at(address), catalog.model("tiny").fingerprint
    with pytest.raises(InvalidRequest, match="has no neuron set yet"):
        chosen_neuron_set(mark, sets, model="tiny")
    first = publish(sets, catalog, neuron=1)
    assert chosen_neuron_set(mark, sets, model="tiny") == first
    second = publish(sets, catalog, neuron=2)
    with pytest.raises(InvalidRequest, match="several neuron sets and no default") as caught:
        chosen_neuron_set(mark, sets, model="tiny")
    assert caught.value.param == "neurons"
    assert first in caught.value.message
    assert second in caught.value.message


def test_a_damaged_second_set_does_not_make_the_other_the_only_one(tmp_path: Path, catalog: Catalog) -> None:
    sets, mark = NeuronSets(tmp_path / "neurons"), catalog.model("tiny").fingerprint
    first, second = (publish(sets, catalog, neuron=index) for index in (1, 2))
    (sets.path(second) / "metadata.json").write_text("{", encoding="utf-8")
    assert default_neuron_set(mark, sets).neuron_set is None
    with pytest.raises(InvalidRequest, match=f"{second} cannot be read .* name one by `neurons`: {first}"):
        chosen_neuron_set(mark, sets, model="tiny")
    set_default_neuron_set(mark, first, sets, model="tiny")
    assert chosen_neuron_set(mark, sets, model="tiny") == first


def test_a_default_is_shared_by_all_on_one_storage_and_moves_only_when_it_is_moved(
    address: str, catalog: Catalog
) -> None:
    here, there, mark = neuron_sets_at(address), neuron_sets_at(address), catalog.model("tiny").fingerprint
    first, second = (publish(here, catalog, neuron=index) for index in (1, 2))
    set_default_neuron_set(mark, second, here, model="tiny")
    publish(there, catalog, neuron=3)
    assert [chosen_neuron_set(mark, sets, model="tiny") for sets in (here, there)] == [second, second]
    set_default_neuron_set(mark, first, there, model="tiny")
    assert [chosen_neuron_set(mark, sets, model="tiny") for sets in (here, there)] == [first, first]
    assert len(here.infos()) == 3
    cleared = set_default_neuron_set(mark, None, here, model="tiny")
    assert (cleared.neuron_set, cleared.source) == (None, None)
    with pytest.raises(InvalidRequest, match="no default"):
        chosen_neuron_set(mark, there, model="tiny")


def test_only_a_set_of_the_model_can_be_its_default(catalog: Catalog, tmp_path: Path) -> None:
    sets, mark = NeuronSets(tmp_path / "neurons"), catalog.model("tiny").fingerprint
    with pytest.raises(NotFound):
        set_default_neuron_set(mark, "ns_nope", sets, model="tiny")
    write_model(tmp_path / "other", layers=2)
    others = Catalog(models={"other": tmp_path / "other"}, engine="fake")
    other = publish(sets, others, neuron=1, model="other")
    with pytest.raises(InvalidRequest, match="made for another model"):
        set_default_neuron_set(mark, other, sets, model="tiny")
    assert default_neuron_set(mark, sets).neuron_set is None


def test_a_lost_or_damaged_default_is_reported_not_replaced(catalog: Catalog, tmp_path: Path) -> None:
    sets, mark = NeuronSets(tmp_path / "neurons"), catalog.model("tiny").fingerprint
    first, second = (publish(sets, catalog, neuron=index) for index in (1, 2))
    set_default_neuron_set(mark, second, sets, model="tiny")
    sets.path(second).rename(tmp_path / "elsewhere")
    with pytest.raises(InvalidRequest, match=f"the default neuron set {second} .* no longer exists"):
        chosen_neuron_set(mark, sets, model="tiny")
    sets.write_default(mark, b"{}")
    with pytest.raises(DamagedFile, match="set it again"):
        chosen_neuron_set(mark, sets, model="tiny")
    assert first
