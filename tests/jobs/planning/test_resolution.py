"""The axes of a sweep: what the names in a spec are resolved to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest, UnknownName
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.resolution import ResolvedSweep, resolve
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import raw_spec


def resolved(catalog: Catalog, **changes: Any) -> ResolvedSweep:
    return resolve(parse_spec(raw_spec(**changes)), catalog, NeuronSets(Path("nowhere")))


def test_all_layers_are_one_choice_where_the_spec_gives_none(catalog: Catalog) -> None:
    assert resolved(catalog, interventions={"languages": ["fr"], "op": "scale", "factors": [2]}).layers == (None,)


def test_each_layer_is_a_choice_of_its_own_and_a_list_is_one_choice(catalog: Catalog) -> None:
    interventions = {"languages": ["fr"], "op": "scale", "factors": [2]}
    assert resolved(catalog, interventions={**interventions, "layers": "each"}).layers == ((0,), (1,), (2,))
    assert resolved(catalog, interventions={**interventions, "layers": [2, 0]}).layers == ((0, 2),)


def test_modes_differ_in_factors_neuron_sets_and_references_alone(catalog: Catalog) -> None:
    interventions = {"languages": ["fr"], "op": "scale", "factors": [1.2, 1.8, 3]}
    sweep = resolved(catalog, mode=["corrected", "paper"], interventions=interventions)
    (operation,) = sweep.operations
    assert operation.factors == {"corrected": (1.2, 1.8, 3.0), "paper": (1.0, 3.0)}
    assert sweep.neurons["corrected"].ref.id != sweep.neurons["paper"].ref.id
    corrected, paper = sweep.tasks["corrected"], sweep.tasks["paper"]
    assert [task.targets for task in corrected] == [task.targets for task in paper] == [("fr",)]
    assert [ref.mode for task in corrected for ref in task.refs] == ["corrected"]
    assert [ref.mode for task in paper for ref in task.refs] == ["paper"]


def test_the_cells_of_a_pair_of_languages_are_steered_to_its_target_alone(catalog: Catalog) -> None:
    tasks = [{"name": "lss", "languages": ["en"]}, {"name": "xcopa", "languages": ["it"]}]
    interventions = {"languages": ["fr", "tr"], "op": "scale", "factors": [2]}
    lss, xcopa = resolved(catalog, tasks=tasks, interventions=interventions).tasks["corrected"]
    assert [lss.targets_of(ref) for ref in lss.refs] == [("fr",), ("tr",)]
    assert [xcopa.targets_of(ref) for ref in xcopa.refs] == [("fr", "tr")]


def test_variables_of_a_chat_template_need_a_chat(catalog: Catalog) -> None:
    task = {"name": "lss", "languages": ["en"], "chat_template_kwargs": {"enable_thinking": False}}
    ((lss,),) = resolved(catalog, tasks=[{**task, "chat": True}]).tasks.values()
    assert lss.refs[0].chat_template_kwargs == (("enable_thinking", "false"),)
    for wrong, param in (
        (task, "tasks.0.chat_template_kwargs"),
        ({**task, "chat": True, "chat_template_kwargs": {"tools": []}}, "tasks.0.chat_template_kwargs.tools"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            resolved(catalog, tasks=[wrong])
        assert refused.value.param == param


def test_options_of_a_task_are_kept_where_they_differ_from_its_defaults(catalog: Catalog) -> None:
    assert catalog.data is not None
    prompts = catalog.data / "prompts"
    prompts.mkdir()
    (prompts / "fr.txt").write_text("Il était une fois\n", encoding="utf-8")
    task = {"name": "generation", "languages": ["fr"], "data": "prompts"}

    def sampling(**options: Any) -> tuple[tuple[str, int | float], ...]:
        ((generation,),) = resolved(catalog, tasks=[{**task, **options}]).tasks.values()
        return generation.refs[0].sampling

    assert sampling() == sampling(max_tokens=64, temperature=0) == ()
    assert sampling(temperature=0.5, n=2, max_tokens=64) == (("n", 2), ("temperature", 0.5))
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"n": 2}, "tasks.0.n", "with temperature 0 all answers are the same"),
        ({"name": "xcopa", "languages": ["it"], "data": "xcopa", "top_p": 0.5}, "tasks.0.top_p", "samples no answers"),
    ]
    for options, param, message in wrong:
        with pytest.raises(InvalidRequest, match=message) as raised:
            sampling(**options)
        assert raised.value.param == param


@pytest.mark.parametrize(
    ("changes", "error", "param"),
    [
        ({"model": "big"}, UnknownName, "model"),
        ({"tasks": [{"name": "chess", "languages": ["en"]}]}, UnknownName, "tasks.0.name"),
        (
            {"interventions": {"languages": ["fr"], "op": "scale", "factors": [2], "layers": [3]}},
            InvalidRequest,
            "interventions.layers.0",
        ),
    ],
)
def test_an_error_names_the_field(
    catalog: Catalog, changes: dict[str, Any], error: type[InvalidRequest], param: str
) -> None:
    with pytest.raises(error) as caught:
        resolved(catalog, **changes)
    assert caught.value.param == param
