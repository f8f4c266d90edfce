from __future__ import annotations

from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from jobs.planning.catalog import Catalog
from jobs.planning.controls import other_language
from jobs.results.schema import cell_columns
from tests.jobs.planning.test_planner import planned

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
