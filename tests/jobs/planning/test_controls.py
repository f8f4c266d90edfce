from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from engine.neurons.formats.neuron_json import from_json
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.controls import other_language
from jobs.planning.planner import plan
from jobs.results.schema import cell_columns
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import planned, raw_spec

OTHER: dict[str, Any] = {"languages": ["fr"], "op": "set", "factors": [2], "controls": ["random", "other"]}


@pytest.mark.parametrize(
    ("target", "data_language", "expected"),
    [("en", "tr", "fr"), ("tr", "fr", "en"), ("fr", "tr", "en"), ("fr", "it", "tr")],
)
def test_the_other_language_is_the_next_one_except_the_data_language(
    target: str, data_language: str, expected: str
) -> None:
    assert other_language(target, data_language, ("tr", "fr", "en")) == expected


def test_of_two_languages_the_other_one_is_taken_even_if_it_is_the_data_language() -> None:
    assert other_language("en", "fr", ("fr", "en")) == "fr"


def test_each_control_is_a_cell_of_its_own_and_says_whose_neurons_were_edited(catalog: Catalog) -> None:
    cells = planned(catalog, interventions=OTHER, tasks=[{"name": "xcopa", "languages": ["it"]}], seed=7)
    interventions = [cell.intervention for cell in cells if cell.intervention is not None]
    assert [(intervention.selection, intervention.other, intervention.seed) for intervention in interventions] == [
        (None, None, 0),
        ("random", None, 7),
        ("other", "tr", 0),
    ]
    assert len({cell.id for cell in cells}) == 4
    columns = [cell_columns(cell) for cell in cells]
    assert [(row["target_language"], row["control_language"]) for row in columns] == [
        (None, None),
        ("fr", None),
        ("fr", None),
        ("fr", "tr"),
    ]


def test_a_set_of_one_language_has_no_other(catalog: Catalog) -> None:
    neurons = {"method": "activated", "corpus": "small", "languages": ["fr"]}
    with pytest.raises(InvalidRequest, match="no other language") as caught:
        planned(catalog, neurons=neurons, interventions=OTHER)
    assert caught.value.param == "interventions.controls"


def test_the_repeat_is_one_cell_beside_each_baseline_and_has_no_intervention(catalog: Catalog) -> None:
    interventions = {"languages": ["fr", "tr"], "op": "scale", "factors": [1, 2], "controls": ["repeat"]}
    cells = planned(catalog, interventions=interventions, tasks=[{"name": "xcopa", "languages": ["it"]}], max_cells=6)
    assert [cell.method for cell in cells] == [None, "repeat", *["neurons"] * 4]
    baseline, repeat, *_ = cells
    assert (repeat.task, repeat.intervention, repeat.neurons) == (baseline.task, None, None)
    assert repeat.id != baseline.id
    assert cell_columns(repeat)["target_language"] is None


def test_random_neurons_are_drawn_as_often_as_asked_for_the_first_time_with_the_sweeps_seed(catalog: Catalog) -> None:
    interventions = {"languages": ["fr"], "op": "set", "factors": [2], "controls": ["random"], "random_draws": 3}
    tasks = [{"name": "xcopa", "languages": ["it"]}]
    cells = planned(catalog, interventions=interventions, tasks=tasks, seed=7, max_cells=5)
    once = planned(catalog, interventions={**interventions, "random_draws": 1}, tasks=tasks, seed=7)
    assert {cell.id for cell in once} < {cell.id for cell in cells}
    seeds = [cell_columns(cell)["random_seed"] for cell in cells]
    assert seeds[:3] == [None, None, 7]
    assert len(set(seeds[2:])) == 3
    again = planned(catalog, interventions=interventions, tasks=tasks, seed=7)
    assert [cell.id for cell in again] == [cell.id for cell in cells]


def test_zero_is_one_cell_whatever_the_factors(catalog: Catalog) -> None:
    interventions = {
        "languages": {"fr": 2},
        "op": "add",
        "patch": "mean",
        "factors": [1, 2],
        "layers": [0],
        "scope": "prompt",
        "tokens": {"start": -3},
        "controls": ["zero"],
    }
    cells = planned(catalog, interventions=interventions, tasks=[{"name": "xcopa", "languages": ["it"]}])
    (zero,) = (cell.intervention for cell in cells if cell.intervention and cell.intervention.selection == "zero")
    assert len(cells) == 4
    where = {"layers": [0], "scope": "prompt", "tokens": {"start": -3}}
    assert zero == Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": 0, "selection": "zero", **where})
    assert Intervention.from_dict(zero.to_dict()) == zero


def test_neurons_of_no_language_need_a_set_with_entropies(catalog: Catalog, tmp_path: Path) -> None:
    raw = raw_spec(
        interventions={"languages": ["fr"], "op": "scale", "factors": [2], "controls": ["non_language"]},
        tasks=[{"name": "xcopa", "languages": ["it"]}],
    )
    neuron_sets = NeuronSets(tmp_path / "neurons")
    cells = plan(parse_spec(raw), catalog, neuron_sets)
    (control,) = (cell for cell in cells if cell.intervention and cell.intervention.selection == "non_language")
    assert control.neurons is not None
    stored = from_json({"en": {}, "fr": {"0": [1]}, "tr": {}}, model=catalog.model("tiny"))
    neuron_sets.publish(control.neurons.id, replace(stored, id=control.neurons.id).save)
    with pytest.raises(InvalidRequest, match="has no entropies, which the control non_language needs") as caught:
        plan(parse_spec(raw), catalog, neuron_sets)
    assert caught.value.param == "interventions.controls"
    entropy = np.zeros(stored.widths.shape, dtype=np.float32)
    (neuron_sets.folder / control.neurons.id).rename(tmp_path / "old")
    neuron_sets.publish(control.neurons.id, replace(stored, id=control.neurons.id, entropy=entropy).save)
    assert [cell.id for cell in plan(parse_spec(raw), catalog, neuron_sets)] == [cell.id for cell in cells]
