"""Operations of a spec: one, or several with magnitudes of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.statistic import Statistic
from ampsweep.errors import InvalidRequest
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.neuron_choice import resolve_neurons
from jobs.planning.operations import ResolvedOperation, check_patches, resolve_operations
from jobs.planning.planner import plan
from jobs.spec.interventions import InterventionsSpec
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import raw_spec

SET_AND_SCALE: list[dict[str, Any]] = [
    {"op": "set", "patch": ["max", "median"], "factors": [1, 2]},
    {"op": "scale", "factors": [0, 5.5]},
]


def interventions_of(**fields: Any) -> InterventionsSpec:
    return parse_spec(raw_spec(interventions={"languages": ["fr"], **fields})).interventions


def operations_of(**fields: Any) -> tuple[ResolvedOperation, ...]:
    return resolve_operations(interventions_of(**fields), ("corrected", "paper"))


def steered(catalog: Catalog, tmp_path: Path, **fields: Any) -> list[Intervention]:
    spec = parse_spec(raw_spec(interventions={"languages": ["fr"], **fields}))
    cells = plan(spec, catalog, NeuronSets(tmp_path)).cells
    return list(dict.fromkeys(cell.intervention for cell in cells if cell.intervention is not None))


def test_each_axis_has_one_value_where_the_spec_gives_none() -> None:
    (scaled,) = operations_of(op="scale", factors=[0.5, 2])
    assert (scaled.patches, scaled.statistics, scaled.factors["corrected"]) == ((None,), (None,), (0.5, 2.0))
    (patched,) = operations_of(op="set", patch=["max", "mean"])
    assert (patched.patches, patched.factors["corrected"]) == (("max", "mean"), (1.0,))
    (described,) = operations_of(op="set", statistic=["p97.5"])
    assert described.statistics == (Statistic.parse("p97.5"),)


def test_each_of_several_operations_has_its_own_magnitudes() -> None:
    patched, scaled = operations_of(ops=SET_AND_SCALE)
    assert (patched.op, patched.patches, patched.factors["paper"]) == ("set", ("max", "median"), (1.0, 2.0))
    assert (scaled.op, scaled.patches, scaled.factors["paper"]) == ("scale", (None,), (0.0, 5.0))


def test_the_plan_has_the_interventions_of_each_operation_in_turn(catalog: Catalog, tmp_path: Path) -> None:
    both = steered(catalog, tmp_path, ops=SET_AND_SCALE, controls=["random"])
    apart = [steered(catalog, tmp_path, **operation, controls=["random"]) for operation in SET_AND_SCALE]
    assert both == [*apart[0], *apart[1]]
    assert len(both) == 2 * (4 + 2)


def test_a_control_that_several_operations_share_is_computed_once(catalog: Catalog, tmp_path: Path) -> None:
    both = steered(catalog, tmp_path, ops=SET_AND_SCALE, controls=["zero"])
    assert [intervention.selection for intervention in both].count("zero") == 1


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({}, "op", "is required; give one, or several operations in ops"),
        ({"op": "scale", "ops": SET_AND_SCALE}, "op", "inside each operation"),
        ({"factors": [2], "ops": SET_AND_SCALE}, "factors", "inside each operation"),
        ({"patch": "max", "ops": SET_AND_SCALE}, "patch", "inside each operation"),
        ({"ops": []}, "ops", "at least 1"),
        ({"ops": [{"op": "scale"}]}, "ops.0.factors", "a magnitude is required"),
        ({"ops": [SET_AND_SCALE[1], {"op": "scale", "patch": "max"}]}, "ops.1.patch", "not with scale"),
        ({"ops": [SET_AND_SCALE[0], SET_AND_SCALE[0]]}, "ops", "twice"),
    ],
)
def test_a_wrong_operation_is_named(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as rejected:
        interventions_of(**fields)
    assert rejected.value.param == f"interventions.{param}"


def test_a_search_runs_over_one_operation(catalog: Catalog, tmp_path: Path) -> None:
    spec = parse_spec(raw_spec(interventions={"languages": ["fr"], "ops": SET_AND_SCALE}, search="halving"))
    with pytest.raises(InvalidRequest, match="one operation") as rejected:
        plan(spec, catalog, NeuronSets(tmp_path))
    assert rejected.value.param == "interventions.ops"


def test_missing_patch_values_are_named_where_they_stand(catalog: Catalog, tmp_path: Path) -> None:
    spec = parse_spec(raw_spec())
    choice = resolve_neurons(spec.neurons, catalog.model(spec.model), catalog, NeuronSets(tmp_path), modes=spec.mode)
    neurons = replace(choice["corrected"], patches=("max", "mean"))
    with pytest.raises(InvalidRequest, match="no patch values median") as rejected:
        check_patches(interventions_of(ops=SET_AND_SCALE), neurons)
    assert rejected.value.param == "interventions.ops.0.patch"
    with pytest.raises(InvalidRequest) as rejected:
        check_patches(interventions_of(op="set", patch="median"), neurons)
    assert rejected.value.param == "interventions.patch"
