"""The entries that interventions take, and what the workers cannot resolve."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import UnknownName
from engine.base import Steering
from engine.vllm.requests import slot_entries
from engine.vllm.requests.slot_entries import EntryCounts, workers_take_statistics
from tests.engine.neuron_sets import info_of, make_neuron_set

NEURONS = make_neuron_set({"fr": [(0, 1), (1, 5)], "tr": [(2, 0)]})
INFO = info_of(NEURONS)


@pytest.mark.parametrize(
    ("backend", "ranks", "takes"), [("cuda", 1, True), ("cuda", 2, False), ("cpu", 1, True), ("cpu", 2, True)]
)
def test_the_cuda_backend_takes_statistics_on_one_gpu_only(backend: str, ranks: int, *, takes: bool) -> None:
    config = SimpleNamespace(
        additional_config={"ampsweep": {"backend": backend}},
        parallel_config=SimpleNamespace(tensor_parallel_size=ranks),
    )
    assert workers_take_statistics(config) is takes


def test_an_intervention_takes_an_entry_for_each_neuron_that_it_edits() -> None:
    counts = EntryCounts(INFO, statistics=True)
    counts.add(NEURONS)
    for languages, entries in (["fr"], 2), (["fr", "tr"], 3):
        intervention = Intervention.from_dict({"languages": languages, "op": "scale", "factor": 2.0})
        assert counts.of(Steering(intervention=intervention, neurons=NEURONS.id)) == entries


def test_only_so_many_interventions_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_entries, "_REMEMBERED", 3)
    counts = EntryCounts(INFO, statistics=True)
    counts.add(NEURONS)
    for factor in (*range(1, 9), *range(1, 9)):
        intervention = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": float(factor)})
        assert counts.of(Steering(intervention=intervention, neurons=NEURONS.id)) == 2
        assert len(counts._entries[NEURONS.id]) <= 3


def test_a_set_that_was_dropped_is_unknown() -> None:
    counts = EntryCounts(INFO, statistics=True)
    counts.add(NEURONS)
    steering = Steering(
        intervention=Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2.0}), neurons=NEURONS.id
    )
    counts.of(steering)
    assert counts.drop(NEURONS.id)
    with pytest.raises(UnknownName, match=NEURONS.id):
        counts.of(steering)
