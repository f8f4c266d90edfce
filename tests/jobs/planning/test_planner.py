from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.domain.intervention import Source
from ampsweep.errors import InvalidRequest, NoNeurons, SweepTooLarge, UnknownName
from engine.neurons.formats.neuron_json import from_json
from jobs.cell import Cell
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.results.schema import cell_columns
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import planned, raw_spec, write_jsonl, write_model


def shape(cell: Cell) -> tuple[Any, ...]:
    raw = None if cell.intervention is None else cell.intervention.to_dict()
    steering = raw and (*raw["languages"], raw["selection"], raw["patch"], raw["factor"], raw["layers"])
    return cell.task.data_language, cell.task.target_language, steering


def test_lss_has_a_baseline_of_its_own_for_every_pair_of_languages(catalog: Catalog) -> None:
    cells = planned(catalog, tasks=[{"name": "lss", "languages": ["en", "fr"]}])
    assert [shape(cell) for cell in cells] == [
        ("en", "fr", None),
        ("en", "fr", ("fr", None, None, 0.5, "all")),
        ("en", "fr", ("fr", None, None, 2.0, "all")),
        ("en", "tr", None),
        ("en", "tr", ("tr", None, None, 0.5, "all")),
        ("en", "tr", ("tr", None, None, 2.0, "all")),
        ("fr", "tr", None),
        ("fr", "tr", ("tr", None, None, 0.5, "all")),
        ("fr", "tr", ("tr", None, None, 2.0, "all")),
    ]


def test_xcopa_has_one_baseline_a_language_and_every_target(catalog: Catalog) -> None:
    cells = planned(
        catalog,
        interventions={"op": "scale", "factors": [2], "controls": ["random"]},
        tasks=[{"name": "xcopa", "languages": ["it"]}],
        seed=7,
    )
    assert [shape(cell) for cell in cells] == [
        ("it", None, None),
        *[
            ("it", None, (language, selection, None, 2.0, "all"))
            for language in ("en", "fr", "tr")
            for selection in (None, "random")
        ],
    ]
    assert cells[0].task.split == "test"
    control = cells[2].intervention
    assert control is not None
    assert control.seed == 7


def test_each_statistic_has_a_cell_and_each_target_its_weight(catalog: Catalog) -> None:
    interventions = {"languages": {"fr": 0.5, "tr": 1}, "op": "add", "statistic": ["mean", "p97.50"], "factors": [2]}
    cells = planned(catalog, interventions=interventions, tasks=[{"name": "xcopa", "languages": ["it"]}])
    interventions_as_json = [cell.intervention.to_dict() for cell in cells if cell.intervention is not None]
    assert [(raw["languages"], raw["statistic"]) for raw in interventions_as_json] == [
        (languages, statistic) for languages in ({"fr": 0.5}, ["tr"]) for statistic in ("mean", "p97.5")
    ]
    columns = [cell_columns(cell) for cell in cells]
    assert [(row["target_language"], row["weights"], row["statistic"]) for row in columns] == [
        (None, None, None),
        ("fr", "0.5", "mean"),
        ("fr", "0.5", "p97.5"),
        ("tr", None, "mean"),
        ("tr", None, "p97.5"),
    ]


def test_the_source_is_each_cells_data_language_unless_that_is_the_target(catalog: Catalog) -> None:
    interventions = {
        "languages": ["fr", "tr"],
        "op": "add",
        "patch": "difference",
        "source": {"op": "set", "factor": 0},
    }
    cells = planned(catalog, interventions=interventions, tasks=[{"name": "lss", "languages": ["en", "fr"]}])
    sources = {
        (cell.task.data_language, cell.intervention.languages[0]): cell.intervention.source
        for cell in cells
        if cell.intervention is not None
    }
    english, french = (Source(language=language, op="set", factor=0) for language in ("en", "fr"))
    assert sources == {("en", "fr"): english, ("en", "tr"): english, ("fr", "tr"): french}
    assert catalog.data is not None
    (catalog.data / "own").mkdir()
    write_jsonl(catalog.data / "own" / "fr.jsonl", [{"text": "Bonjour."}])
    tasks = [{"name": "perplexity", "languages": ["fr"], "data": "own"}]
    cells = planned(catalog, interventions=interventions, tasks=tasks)
    assert [cell.intervention.source for cell in cells if cell.intervention] == [None, french]


def test_a_source_needs_the_neurons_of_every_data_language(catalog: Catalog) -> None:
    interventions = {"languages": ["fr"], "op": "scale", "factors": [2], "source": {"op": "set", "factor": 0}}
    with pytest.raises(UnknownName, match="for source 'it'; known: en, fr, tr") as caught:
        planned(catalog, interventions=interventions, tasks=[{"name": "xcopa", "languages": ["it"]}])
    assert caught.value.param == "tasks.0.languages.0"


def test_a_difference_needs_another_language(catalog: Catalog) -> None:
    neurons = {"method": "activated", "corpus": "small", "languages": ["fr"]}
    with pytest.raises(InvalidRequest, match="no other language; difference compares") as caught:
        planned(catalog, neurons=neurons, interventions={"languages": ["fr"], "op": "add", "patch": "difference"})
    assert caught.value.param == "interventions.patch"


def test_each_layer_and_each_patch_value_has_a_cell(catalog: Catalog) -> None:
    interventions = {"languages": ["fr"], "op": "set", "patch": ["max", "mean"], "layers": "each"}
    cells = planned(catalog, interventions=interventions)
    assert [shape(cell)[2] for cell in cells[1:]] == [
        ("fr", None, patch, 1.0, [layer]) for patch in ("max", "mean") for layer in (0, 1, 2)
    ]


def test_a_list_of_layers_is_one_cell(catalog: Catalog) -> None:
    cells = planned(catalog, interventions={"languages": ["fr"], "op": "scale", "factors": [2], "layers": [2, 0]})
    assert [shape(cell)[2] for cell in cells] == [None, ("fr", None, None, 2.0, [0, 2])]


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"model": "big"}, "model", "known: tiny"),
        ({"neurons": {"id": "ns_1"}}, "neurons.id", "known: none"),
        ({"neurons": {"method": "activated", "corpus": "x", "languages": ["en"]}}, "neurons.corpus", "known: small"),
        (
            {"interventions": {"languages": ["fr", "zh"], "op": "scale", "factors": [2]}},
            "interventions.languages.1",
            "known: en, fr, tr",
        ),
        (
            {"interventions": {"languages": {"zh": 2}, "op": "scale", "factors": [2]}},
            "interventions.languages.zh",
            "known: en, fr, tr",
        ),
        (
            {"interventions": {"op": "scale", "factors": [2], "layers": [0, 3]}},
            "interventions.layers.1",
            "layers 0 to 2",
        ),
        (
            {"tasks": [{"name": "chess", "languages": ["en"]}]},
            "tasks.0.name",
            "include, language_confusion, lm_eval:NAME, lss, perplexity",
        ),
        ({"tasks": [{"name": "lss", "languages": ["en", "it"]}]}, "tasks.0.languages.1", "known: en, fr, tr, zh"),
        ({"tasks": [{"name": "xcopa", "languages": ["et"]}]}, "tasks.0.languages.0", "known: it, zh"),
        ({"tasks": [{"name": "xcopa", "languages": ["it"], "split": "val"}]}, "tasks.0.split", "splits there: test"),
        ({"tasks": [{"name": "lss", "languages": ["en"], "split": "val"}]}, "tasks.0.split", "no splits"),
        ({"tasks": [{"name": "lss", "languages": ["en"], "data": "x"}]}, "tasks.0.data", "known: atlas, xcopa"),
        ({"tasks": [{"name": "lss", "languages": ["en"], "data": "xcopa"}]}, "tasks.0.data", "test.it.jsonl"),
        (
            {
                "tasks": [{"name": "lss", "languages": ["fr"]}],
                "interventions": {"languages": ["fr"], "op": "scale", "factors": [2]},
            },
            "tasks.0.languages",
            "compares two languages",
        ),
    ],
)
def test_an_unknown_name_is_rejected_with_the_field(
    catalog: Catalog, change: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        planned(catalog, **change)
    assert caught.value.param == param


def test_a_target_that_the_facts_lack_is_refused(catalog: Catalog) -> None:
    corpus = catalog.corpora["small"]
    (corpus / "it.txt").write_text("Una frase.\n")
    neurons = {"method": "lape", "corpus": "small", "languages": ["en", "it"]}
    with pytest.raises(UnknownName, match="target language for task lss 'it'") as caught:
        planned(catalog, neurons=neurons, interventions={"op": "scale", "factors": [2]})
    assert caught.value.param == "interventions.languages"


def test_too_many_cells_are_refused(catalog: Catalog, tmp_path: Path) -> None:
    wide = replace(catalog, models={"tiny": write_model(tmp_path / "deep", layers=50)})
    interventions = {"languages": ["fr"], "op": "scale", "factors": [1, 2], "layers": "each"}
    assert len(planned(wide, interventions=interventions, max_cells=101)) == 101
    with pytest.raises(InvalidRequest, match="would have 101 cells; the maximum is 100") as caught:
        planned(wide, interventions=interventions, max_cells=100)
    assert caught.value.param == "interventions"


def test_a_task_may_be_asked_with_some_of_the_targets(catalog: Catalog) -> None:
    interventions = {"op": "scale", "factors": [2]}
    tasks = [{"name": "lss", "languages": ["en"], "targets": ["tr"]}, {"name": "xcopa", "languages": ["it"]}]
    cells = planned(catalog, interventions=interventions, tasks=tasks)
    steered = [(cell.task.name, *cell.intervention.languages) for cell in cells if cell.intervention is not None]
    assert steered == [("lss", "tr"), ("xcopa", "en"), ("xcopa", "fr"), ("xcopa", "tr")]
    with pytest.raises(InvalidRequest, match="would have 6 cells"):
        planned(catalog, interventions=interventions, tasks=tasks, max_cells=5)


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({}, "tasks.0.targets.0", "known: fr, tr"),
        ({"search": {"method": "halving", "items": 1, "keep": 1}}, "tasks.0.targets", "leave targets out"),
    ],
)
def test_targets_of_a_task_must_be_the_sweeps(
    catalog: Catalog, change: dict[str, Any], param: str, message: str
) -> None:
    targets = ["tr"] if change else ["en"]
    with pytest.raises(InvalidRequest, match=message) as caught:
        planned(catalog, tasks=[{"name": "lss", "languages": ["en"], "targets": targets}], **change)
    assert caught.value.param == param


def import_set(folder: Path, neurons: Mapping[str, object], catalog: Catalog) -> tuple[NeuronSets, str]:
    neuron_set = from_json(neurons, model=catalog.model("tiny"))
    sets = NeuronSets(folder / "neurons")
    sets.publish(neuron_set.id, neuron_set.save)
    return sets, neuron_set.id


def test_a_target_without_neurons_gives_a_warning_and_a_sweep_without_any_neurons_is_rejected(
    catalog: Catalog, tmp_path: Path
) -> None:
    sets, neurons = import_set(tmp_path, {"en": {"0": [1]}, "fr": {}, "tr": {"2": [3]}}, catalog)
    interventions = {"op": "scale", "factors": [2]}
    planned_cells = plan(parse_spec(raw_spec(neurons={"id": neurons}, interventions=interventions)), catalog, sets)
    (warning,) = planned_cells.warnings
    assert warning.startswith(f"interventions.languages: neuron set {neurons} has no neurons of fr; ")
    assert {cell.intervention.languages[0] for cell in planned_cells if cell.intervention} == {"fr", "tr"}
    only = {**interventions, "languages": ["fr"]}
    with pytest.raises(NoNeurons, match=r"no neurons of fr, .* languages with neurons: en \(1\), tr \(1\)") as caught:
        plan(parse_spec(raw_spec(neurons={"id": neurons}, interventions=only)), catalog, sets)
    assert caught.value.param == "interventions.languages"
    silenced = {**only, "non_target": {"op": "set", "factor": 0}}
    assert not plan(parse_spec(raw_spec(neurons={"id": neurons}, interventions=silenced)), catalog, sets).warnings


NEURONS = {"en": {"0": [1]}, "fr": {"0": [2, 7], "2": [0]}, "tr": {"2": [3]}}
EACH = {"languages": ["fr", "tr"], "op": "set", "factors": [0], "neurons": "each"}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("all", [("fr", (0, 2)), ("fr", (0, 7)), ("fr", (2, 0)), ("tr", (2, 3))]),
        ([0, 1], [("fr", (0, 2)), ("fr", (0, 7))]),
        ("each", [("fr", (0, 2)), ("fr", (0, 7)), ("fr", (2, 0)), ("tr", (2, 3))]),
    ],
)
def test_each_neuron_of_a_target_has_a_cell(
    layers: object, expected: list[tuple[str, tuple[int, int]]], catalog: Catalog, tmp_path: Path
) -> None:
    sets, neurons = import_set(tmp_path, NEURONS, catalog)
    tasks = [{"name": "xcopa", "languages": ["it", "zh"]}]
    spec = parse_spec(raw_spec(neurons={"id": neurons}, interventions={**EACH, "layers": layers}, tasks=tasks))
    cells = plan(spec, catalog, sets)
    edited = [cell.intervention for cell in cells if cell.intervention is not None]
    assert [(*each.languages, each.neuron) for each in edited] == 2 * expected
    assert len({cell.id for cell in cells}) == len(cells) == 2 + 2 * len(expected)
    columns = [cell_columns(cell) for cell in cells]
    assert [(row["neuron_layer"], row["neuron_index"]) for row in columns if row["op"]] == [
        neuron for _, neuron in 2 * expected
    ]
    with pytest.raises(SweepTooLarge, match=f"would have {len(cells)} cells"):
        plan(spec, catalog, sets, max_cells=len(cells) - 1)


def test_each_neuron_needs_a_set_that_exists(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest, match="is not identified yet; identify it first") as caught:
        planned(catalog, interventions=EACH)
    assert caught.value.param == "interventions.neurons"


def test_an_unknown_adapter_is_refused_with_the_known_ones(catalog: Catalog) -> None:
    with pytest.raises(UnknownName, match="unknown adapter of model tiny 'a'; known: none") as caught:
        planned(catalog, adapter="a")
    assert caught.value.param == "adapter"
