from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from jobs.spec.neurons import NeuronsById, NeuronsByMethod
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import raw_spec

WRONG: list[tuple[str, Any, str]] = [
    ("model", 3, "model"),
    ("name", "", "name"),
    ("seed", -1, "seed"),
    ("seed", True, "seed"),
    ("colour", "red", "colour"),
    ("neurons", 3, "neurons"),
    ("neurons.colour", "red", "neurons.colour"),
    ("neurons.method", "magic", "neurons.method"),
    ("neurons.languages", [], "neurons.languages"),
    ("neurons.languages", ["en", "en"], "neurons.languages"),
    ("neurons.languages", [False], "neurons.languages.0"),
    ("neurons.top_rate", 0, "neurons.top_rate"),
    ("neurons.top_rate", 1.5, "neurons.top_rate"),
    ("neurons.k", 5, "neurons.k"),
    ("neurons", {"id": "../../etc"}, "neurons.id"),
    ("neurons", {"id": "ns_1", "method": "lape"}, "neurons.method"),
    ("interventions.op", "multiply", "interventions.op"),
    ("interventions.factors", [], "interventions.factors"),
    ("interventions.factors", ["2"], "interventions.factors.0"),
    ("interventions.factors", [1, True], "interventions.factors.1"),
    ("interventions.factors", [1, float("nan")], "interventions.factors.1"),
    ("interventions.factors", [float("inf")], "interventions.factors.0"),
    ("interventions.factors", [1, 1.0], "interventions.factors"),
    ("interventions.patch", "max", "interventions.patch"),
    ("interventions.patch", ["largest"], "interventions.patch.0"),
    ("interventions", {"op": "set", "patch": ["max", "difference"]}, "interventions.patch"),
    ("interventions.source", {"op": "set"}, "interventions.source.factor"),
    ("interventions.source", {"op": "set", "factor": 0, "language": "en"}, "interventions.source.language"),
    ("interventions.random_draws", 0, "interventions.random_draws"),
    ("interventions.random_draws", 2, "interventions.random_draws"),
    ("interventions.neurons", "all", "interventions.neurons"),
    ("interventions.baselines", ["prompt_fr"], "interventions.baselines.0"),
    ("interventions.statistic", "mean", "interventions.statistic"),
    ("interventions.statistic", ["mode"], "interventions.statistic.0"),
    ("interventions.statistic", ["p5", "p5.0"], "interventions.statistic"),
    ("interventions.languages", {"fr": True}, "interventions.languages.fr"),
    ("interventions.layers", "some", "interventions.layers"),
    ("interventions.layers", [0, -1], "interventions.layers.1"),
    ("interventions.layers", [], "interventions.layers"),
    ("interventions.layers", 3, "interventions.layers"),
    ("interventions.scope", "some", "interventions.scope"),
    ("interventions.tokens", {"end": 0}, "interventions.tokens.end"),
    ("interventions.tokens", {"start": -1}, "interventions.tokens.start"),
    ("interventions.tokens", 8, "interventions.tokens"),
    ("interventions.tokens", [], "interventions.tokens"),
    ("interventions.tokens", [{"end": 8}, {"end": 8}], "interventions.tokens"),
    ("interventions.tokens", [{"end": 8}, {"end": 0}], "interventions.tokens.1.end"),
    ("interventions.tokens", [None, {"start": -1}], "interventions.tokens.1.start"),
    ("interventions.when", "often", "interventions.when"),
    ("interventions.when", ["drift", {"drift": {"window": 9}}], "interventions.when.1.drift.window"),
    ("interventions.part", "thoughts", "interventions.part"),
    ("interventions.part", ["thinking", "thinking"], "interventions.part"),
    (
        "interventions",
        {"op": "scale", "factors": [2], "tokens": [{"end": 8}], "when": [None, "drift"]},
        "interventions.tokens",
    ),
    (
        "interventions",
        {"op": "scale", "factors": [2], "tokens": {"end": 8}, "part": "thinking"},
        "interventions.tokens",
    ),
    (
        "interventions",
        {"op": "scale", "factors": [2], "scope": "prompt", "part": [None, "answer"]},
        "interventions.scope",
    ),
    ("interventions.controls", ["magic"], "interventions.controls.0"),
    ("interventions.non_target", {"op": "scale"}, "interventions.non_target.factor"),
    ("interventions.non_target", {"op": "scale", "factor": 1, "x": 1}, "interventions.non_target.x"),
    ("tasks", [], "tasks"),
    ("tasks", {"name": "lss"}, "tasks"),
    ("tasks", ["lss"], "tasks.0"),
    ("tasks.0.limit", 0, "tasks.0.limit"),
    ("tasks.0.limit", 2.5, "tasks.0.limit"),
    ("tasks.0.lmit", 2, "tasks.0.lmit"),
    ("tasks.0.max_tokens", 0, "tasks.0.max_tokens"),
    ("tasks.0.temperature", 2.1, "tasks.0.temperature"),
    ("tasks.0.temperature", "hot", "tasks.0.temperature"),
    ("tasks.0.top_p", 0, "tasks.0.top_p"),
    ("tasks.0.n", 129, "tasks.0.n"),
    ("tasks.0.seed", -1, "tasks.0.seed"),
]


def changed(path: str, value: Any) -> dict[str, Any]:
    spec: Any = deepcopy(raw_spec())
    node = spec
    *parents, last = path.split(".")
    for step in parents:
        node = node[int(step)] if step.isdigit() else node[step]
    node[last] = value
    return dict(spec)


@pytest.mark.parametrize(("path", "value", "param"), WRONG)
def test_the_first_wrong_field_is_named(path: str, value: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_spec(changed(path, value))
    assert caught.value.param == param
    assert caught.value.message.startswith(param)


@pytest.mark.parametrize(
    "path", ["model", "neurons.corpus", "neurons.languages", "interventions.op", "tasks.0.languages"]
)
def test_a_missing_field_is_named(path: str) -> None:
    raw: Any = raw_spec()
    node = raw
    *parents, last = path.split(".")
    for step in parents:
        node = node[int(step)] if step.isdigit() else node[step]
    del node[last]
    with pytest.raises(InvalidRequest, match="is required") as caught:
        parse_spec(raw)
    assert caught.value.param == path


@pytest.mark.parametrize("raw", [None, [], "model: tiny", 3])
def test_anything_but_an_object_is_rejected(raw: object) -> None:
    with pytest.raises(InvalidRequest, match="must be an object"):
        parse_spec(raw)


def test_a_sweep_without_any_magnitude_is_refused() -> None:
    raw = raw_spec(interventions={"op": "set"})
    with pytest.raises(InvalidRequest, match="give factors, or patch") as caught:
        parse_spec(raw)
    assert caught.value.param == "interventions.factors"


def test_a_folder_in_place_of_the_id_of_a_neuron_set_is_told_how_to_find_the_id() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_spec(raw_spec(neurons={"id": "out/neurons"}))
    assert caught.value.param == "neurons.id"
    assert caught.value.message.endswith("which `ampsweep neurons show FOLDER` prints (ns_...); got 'out/neurons'")


def test_the_error_of_an_unknown_key_lists_the_valid_keys() -> None:
    with pytest.raises(
        InvalidRequest,
        match="use one of: chat, chat_template_kwargs, data, facts, languages, limit, max_tokens, n, name, seed",
    ):
        parse_spec(changed("tasks.0.lmit", 3))


@pytest.mark.parametrize(
    "interventions",
    [
        {"op": "set", "patch": "max"},
        {"op": "set", "statistic": ["mean", "p97.5"], "languages": {"fr": 0.5, "tr": 1}},
        {"op": "add", "patch": ["max", "median"], "factors": [1, 2]},
        {"op": "scale", "factors": [0, -2], "layers": "each", "scope": "prompt", "controls": ["random"]},
        {"op": "scale", "factors": [2], "scope": "prompt", "tokens": {"positions": [0, -1]}},
        {"op": "scale", "factors": [2], "tokens": [None, {"end": 8}, {"positions": [3, 0], "decay": 0.5}]},
        {"op": "scale", "factors": [2], "when": [None, "drift", {"drift": {"window": 90}}], "part": ["answer", None]},
        {"op": "scale", "factors": [2], "when": {"drift": {"window": 90}}, "part": "thinking"},
        {"op": "scale", "factors": [2], "layers": [0, 1], "non_target": {"op": "set", "factor": 0}},
        {"op": "scale", "factors": [2], "controls": ["random", "zero", "non_language"], "random_draws": 3},
        {"op": "add", "patch": "difference", "source": {"op": "set", "factor": 0}},
        {"op": "scale", "factors": [2], "baselines": ["prompt_native"], "controls": ["repeat"]},
    ],
)
@pytest.mark.parametrize(
    "neurons", [{"id": "ns_abc"}, {"method": "act_prob", "corpus": "c", "languages": ["en"], "k": 3}]
)
def test_a_spec_reads_back_what_it_writes(interventions: dict[str, Any], neurons: dict[str, Any]) -> None:
    spec = parse_spec(raw_spec(interventions=interventions, neurons=neurons))
    assert parse_spec(spec.to_dict()) == spec


def test_neurons_are_a_set_or_a_method_with_its_defaults() -> None:
    assert isinstance(parse_spec(raw_spec(neurons={"id": "ns_abc"})).neurons, NeuronsById)
    neurons = parse_spec(changed("neurons.top_rate", 0.5)).neurons
    assert isinstance(neurons, NeuronsByMethod)
    assert neurons.request().params == {"top_rate": 0.5, "filter_rate": 0.95, "activation_bar": 0.95}
