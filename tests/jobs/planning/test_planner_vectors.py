"""The cells of baselines that add a vector to the residual stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ampsweep.errors import InvalidRequest, SweepTooLarge
from engine.neurons.formats.neuron_json import from_json
from jobs.cell import Cell
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.results.schema import cell_columns
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import planned, raw_spec


def test_a_vector_baseline_is_a_cell_for_each_target_factor_and_layer_choice(catalog: Catalog) -> None:
    interventions = {
        "languages": ["fr", "tr"],
        "op": "scale",
        "factors": [2],
        "scope": "generation",
        "tokens": {"end": 4},
        "controls": ["random", "other"],
        "baselines": ["prompt_en", {"method": "diffmean", "factors": [4, 8], "layers": "each"}],
    }
    cells = planned(catalog, interventions=interventions, tasks=[{"name": "xcopa", "languages": ["it"]}])
    vectors = [cell for cell in cells if cell.method == "diffmean"]
    layers = catalog.model("tiny").layers
    assert len(vectors) == 2 * 2 * layers * 2
    made = {cell.intervention for cell in vectors if cell.intervention is not None}
    assert len(made) == len(vectors)
    assert {(each.op, each.vector, each.scope, each.selection) for each in made} == {
        ("add", "diffmean", "generation", None),
        ("add", "diffmean", "generation", "random"),
    }
    assert {(each.languages, each.factor, each.layers) for each in made} == {
        ((target,), factor, (layer,)) for target in ("fr", "tr") for factor in (4.0, 8.0) for layer in range(layers)
    }
    assert all(Cell.from_dict(cell.to_dict()).id == cell.id for cell in vectors)
    assert {cell_columns(cell)["tokens"] for cell in cells if cell.intervention} == {"end=4"}
    assert {cell_columns(cell)["tokens"] for cell in cells if not cell.intervention} == {None}


def test_vector_baselines_count_towards_the_limit_of_cells(catalog: Catalog) -> None:
    vector = {"method": "diffmean", "factors": [4, 8]}
    interventions = {"languages": ["fr"], "op": "scale", "factors": [2], "controls": ["random"], "baselines": [vector]}
    tasks = [{"name": "xcopa", "languages": ["it"]}]
    assert len(planned(catalog, interventions=interventions, tasks=tasks, max_cells=7)) == 1 + 2 + 4
    with pytest.raises(SweepTooLarge, match="7 cells"):
        planned(catalog, interventions=interventions, tasks=tasks, max_cells=6)


@pytest.mark.parametrize("residual", [False, True])
def test_a_vector_needs_a_set_with_mean_residuals(catalog: Catalog, tmp_path: Path, residual: bool) -> None:
    model = catalog.model("tiny")
    made = from_json({"fr": {"0": [1]}, "tr": {"1": [2]}}, model=model)
    if residual:
        made = replace(made, residual_mean=np.zeros((2, model.layers, 4), dtype=np.float32))
    sets = NeuronSets(tmp_path / "sets")
    sets.publish(made.id, made.save)
    interventions = {"op": "scale", "factors": [2], "baselines": [{"method": "diffmean", "factors": [4]}]}
    spec = parse_spec(raw_spec(neurons={"id": made.id}, interventions=interventions))
    if residual:
        assert {cell.method for cell in plan(spec, catalog, sets)} == {None, "neurons", "diffmean"}
        return
    with pytest.raises(InvalidRequest, match="has no residual vectors") as caught:
        plan(spec, catalog, sets)
    assert caught.value.param == "interventions.baselines"
