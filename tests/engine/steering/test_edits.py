from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest, UnknownName
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import Edits, resolve
from tests.engine.neuron_sets import make_neuron_set

LAYERS, WIDTH = 3, 8
LANGUAGES = ("en", "fr", "tr")
_pairs = st.lists(st.tuples(st.integers(0, LAYERS - 1), st.integers(0, WIDTH - 1)), unique=True, max_size=10)
_sets = st.fixed_dictionaries(dict.fromkeys(LANGUAGES, _pairs))
_factors = st.floats(-10, 10, width=32)
_raw = st.fixed_dictionaries(
    {
        "languages": st.lists(st.sampled_from(LANGUAGES), min_size=1, unique=True),
        "op": st.sampled_from(["scale", "add", "set"]),
        "factor": _factors,
        "weights": st.none() | st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3),
        "layers": st.just("all") | st.lists(st.integers(0, LAYERS - 1), min_size=1, unique=True),
        "non_target": st.none()
        | st.fixed_dictionaries({"op": st.sampled_from(["scale", "add", "set"]), "factor": _factors}),
        "source": st.none()
        | st.fixed_dictionaries(
            {
                "language": st.sampled_from(LANGUAGES),
                "op": st.sampled_from(["scale", "add", "set"]),
                "factor": _factors,
            }
        ),
    }
)


Affine = tuple[float, float, float]


def _affine(op: str, value: float) -> Affine:
    return {"scale": (value, 0.0, 0.0), "add": (1.0, value, 0.0), "set": (0.0, value, 0.0)}[op]


def _affine_of(raw: dict[str, Any], neurons: NeuronSet, code: str, layer: int, index: int) -> Affine:
    """Return the edit of one neuron for one of its languages, with the language's weight."""
    value = raw["factor"]
    if raw.get("patch"):
        assert neurons.patch is not None
        row = neurons.languages.index(code)
        if raw["patch"] == "difference":
            means = [float(mean) for mean in neurons.patch.mean[:, layer, index]]
            value *= means.pop(row) - sum(means) / len(means)
        else:
            value *= float(getattr(neurons.patch, raw["patch"])[row, layer, index])
    mult, add, coef = _affine(raw["op"], value)
    if raw.get("statistic"):
        add, coef = 0.0, value
    weight = raw["languages"][code] if isinstance(raw["languages"], dict) else 1.0
    return 1 + weight * (mult - 1), weight * add, weight * coef


def _intervention(raw: dict[str, Any]) -> Intervention:
    return Intervention.from_dict({key: value for key, value in raw.items() if key != "weights"})


def _naive(raw: dict[str, Any], neurons: NeuronSet) -> dict[tuple[int, int], Affine]:
    """Compute the edits neuron by neuron, as the method describes them."""
    edits: dict[tuple[int, int], Affine] = {}
    own = {code: {(layer, index) for layer, index in neurons.neurons[code].tolist()} for code in LANGUAGES}
    for layer in range(LAYERS):
        for index in range(WIDTH):
            owners = [code for code in LANGUAGES if (layer, index) in own[code]]
            targets = [code for code in raw["languages"] if code in owners]
            if raw["layers"] != "all" and layer not in raw["layers"]:
                continue
            if targets:
                shares = [_affine_of(raw, neurons, code, layer, index) for code in targets]
                mult, add, coef = (sum(column) / len(targets) for column in zip(*shares, strict=True))
                edits[layer, index] = (mult, add, coef)
            elif (
                raw["source"]
                and raw["source"]["language"] in owners
                and raw["source"]["language"] not in raw["languages"]
            ):
                edits[layer, index] = _affine(raw["source"]["op"], raw["source"]["factor"])
            elif raw["non_target"] and owners:
                edits[layer, index] = _affine(raw["non_target"]["op"], raw["non_target"]["factor"])
    return edits


def _as_dict(edits: Edits) -> dict[tuple[int, int], Affine]:
    assert (edits.coef is None) == (edits.statistic is None)
    coef = np.zeros_like(edits.mult) if edits.coef is None else edits.coef
    affine = {}
    for layer in range(LAYERS):
        entries = edits.entries(layer)
        assert (np.diff(edits.indices[entries]) > 0).all()
        values = np.stack([edits.mult[entries], edits.add[entries], coef[entries]], axis=1)
        for index, (m, a, c) in zip(edits.indices[entries].tolist(), values.tolist(), strict=True):
            affine[layer, index] = (m, a, c)
    return affine


def _check(raw: dict[str, Any], neurons: NeuronSet) -> None:
    if raw.get("weights"):
        raw = {**raw, "languages": {code: raw["weights"][LANGUAGES.index(code)] for code in raw["languages"]}}
    edits = resolve(_intervention(raw), neurons)
    dtypes = [array.dtype.name for array in (edits.offsets, edits.indices, edits.mult, edits.add)]
    assert dtypes == ["int64", "int32", "float32", "float32"]
    assert edits.offsets.shape == (LAYERS + 1,)
    assert edits.offsets[0] == 0
    assert edits.offsets[-1] == len(edits.indices) == len(edits.mult) == len(edits.add)
    resolved, expected = _as_dict(edits), _naive(raw, neurons)
    assert resolved.keys() == expected.keys()
    ours, theirs = (np.array([each[neuron] for neuron in expected]) for each in (resolved, expected))
    assert (np.abs(ours - theirs) <= np.maximum(1e-6, 1e-6 * np.abs(theirs))).all(), (resolved, expected)


@given(sets=_sets, raw=_raw)
def test_edits_of_a_factor_equal_a_direct_computation(
    sets: dict[str, list[tuple[int, int]]], raw: dict[str, Any]
) -> None:
    _check(raw, make_neuron_set(sets))


@given(sets=_sets, raw=_raw, patch=st.sampled_from(["max", "median", "mean"]), op=st.sampled_from(["add", "set"]))
def test_edits_of_patch_values_equal_a_direct_computation(
    sets: dict[str, list[tuple[int, int]]], raw: dict[str, Any], patch: str, op: str
) -> None:
    _check({**raw, "patch": patch, "op": op}, make_neuron_set(sets))


@given(sets=_sets, raw=_raw)
def test_differences_are_resolved_as_the_method_says(
    sets: dict[str, list[tuple[int, int]]], raw: dict[str, Any]
) -> None:
    _check({**raw, "patch": "difference", "op": "add"}, make_neuron_set(sets))


@given(sets=_sets, raw=_raw, statistic=st.sampled_from(["mean", "p97.5"]), op=st.sampled_from(["add", "set"]))
def test_edits_of_statistics_equal_a_direct_computation(
    sets: dict[str, list[tuple[int, int]]], raw: dict[str, Any], statistic: str, op: str
) -> None:
    _check({**raw, "statistic": statistic, "op": op}, make_neuron_set(sets))


@given(sets=_sets, raw=_raw)
def test_weights_of_1_change_no_bit(sets: dict[str, list[tuple[int, int]]], raw: dict[str, Any]) -> None:
    neurons = make_neuron_set(sets)
    single = {**raw, "languages": raw["languages"][:1]}
    edits = resolve(_intervention(single), neurons)
    factor = np.float32(raw["factor"])
    for (layer, index), (mult, add, _) in _as_dict(edits).items():
        if [layer, index] in neurons.neurons[raw["languages"][0]].tolist():
            assert (mult, add) == _affine(raw["op"], float(factor))[:2]


OVERLAPPING = {
    "en": [(0, 1), (0, 5), (2, 3)],
    "fr": [(0, 1), (1, 2), (1, 4), (2, 7)],
    "tr": [(0, 0), (1, 2)],
}


def test_language_arithmetic_adds_the_difference_and_turns_the_source_off() -> None:
    neurons = make_neuron_set(OVERLAPPING)
    assert neurons.patch is not None
    mean = np.zeros((3, LAYERS, WIDTH), dtype=np.float32)
    mean[:, 0, 1], mean[:, 1, 2] = (1.0, 5.0, 3.0), (-2.0, 0.5, 0.0)
    neurons = replace(neurons, patch=replace(neurons.patch, mean=mean))
    raw = {
        "languages": ["fr"],
        "op": "add",
        "patch": "difference",
        "factor": 2,
        "source": {"language": "en", "op": "set", "factor": 0},
    }
    edits = _as_dict(resolve(Intervention.from_dict(raw), neurons))
    assert edits == {
        (0, 1): (1, 2 * (5 - (1 + 3) / 2), 0),  # also English: the target's op wins
        (1, 2): (1, 2 * (0.5 - (-2 + 0) / 2), 0),
        (1, 4): (1, 0, 0),
        (2, 7): (1, 0, 0),
        (0, 5): (0, 0, 0),  # English alone: turned off
        (2, 3): (0, 0, 0),
    }


def test_a_source_must_be_a_language_of_the_set() -> None:
    raw = {"languages": ["fr"], "op": "add", "factor": 1, "source": {"language": "de", "op": "set", "factor": 0}}
    with pytest.raises(UnknownName, match="en, fr, tr") as caught:
        resolve(Intervention.from_dict(raw), make_neuron_set(OVERLAPPING))
    assert caught.value.param == "intervention.source.language"


def test_a_difference_needs_another_language() -> None:
    raw = {"languages": ["fr"], "op": "add", "patch": "difference"}
    with pytest.raises(InvalidRequest, match="has only fr: patch difference needs other languages") as caught:
        resolve(Intervention.from_dict(raw), make_neuron_set({"fr": [(0, 1)]}))
    assert caught.value.param == "intervention.patch"


def test_neurons_of_no_language_are_those_of_the_highest_entropy_in_each_layer() -> None:
    entropy = np.arange(LAYERS * WIDTH, dtype=np.float32).reshape(LAYERS, WIDTH)
    entropy[1, 7] = np.nan  # no candidate
    neurons = replace(make_neuron_set(OVERLAPPING), entropy=entropy)
    raw = {"languages": ["fr"], "op": "scale", "factor": 3, "selection": "non_language"}
    edits = resolve(Intervention.from_dict(raw), neurons)
    # French has 1, 2 and 1 neurons; neuron 7 of layer 2 is French
    assert _as_dict(edits) == dict.fromkeys([(0, 7), (1, 5), (1, 6), (2, 6)], (3, 0, 0))


def test_of_too_few_candidates_all_are_taken() -> None:
    entropy = np.full((LAYERS, WIDTH), np.nan, dtype=np.float32)
    entropy[1, [2, 3]] = 1.0  # the first is French
    neurons = replace(make_neuron_set(OVERLAPPING), entropy=entropy)
    raw = {"languages": ["fr"], "op": "scale", "factor": 3, "selection": "non_language"}
    assert _as_dict(resolve(Intervention.from_dict(raw), neurons)) == {(1, 3): (3, 0, 0)}


def test_a_set_without_entropies_has_no_neurons_of_no_language() -> None:
    raw = {"languages": ["fr"], "op": "scale", "factor": 3, "selection": "non_language"}
    with pytest.raises(InvalidRequest, match="no entropies, which selection non_language needs") as caught:
        resolve(Intervention.from_dict(raw), make_neuron_set(OVERLAPPING))
    assert caught.value.param == "intervention.selection"


def test_zero_sets_the_languages_own_neurons_to_0() -> None:
    neurons = make_neuron_set(OVERLAPPING)
    explicit = {"languages": ["fr"], "op": "set", "factor": 0}
    control = Intervention.from_dict({**explicit, "selection": "zero"})
    assert _same(resolve(control, neurons), resolve(Intervention.from_dict(explicit), neurons))
    assert control.hash != Intervention.from_dict(explicit).hash


def _drawn(neurons: NeuronSet, **change: Any) -> set[tuple[int, int]]:
    raw = {"languages": ["en", "fr"], "op": "scale", "factor": 3, "selection": "random", **change}
    return set(_as_dict(resolve(Intervention.from_dict(raw), neurons)))


@given(sets=_sets, seed=st.integers(0, 2**32))
def test_random_neurons_match_the_counts_per_layer(sets: dict[str, list[tuple[int, int]]], seed: int) -> None:
    neurons = make_neuron_set(sets)
    union = {*sets["en"], *sets["fr"]}
    drawn = _drawn(neurons, seed=seed)
    for layer in range(LAYERS):
        drawn_count, union_count = (sum(neuron[0] == layer for neuron in neurons_of) for neurons_of in (drawn, union))
        assert drawn_count == union_count


def test_random_neurons_depend_only_on_set_languages_and_seed() -> None:
    neurons = make_neuron_set(OVERLAPPING, width=64)
    drawn = _drawn(neurons)
    assert drawn == _drawn(neurons, factor=9)
    assert drawn == _drawn(neurons, op="set", patch="max")
    assert drawn == _drawn(neurons, scope="prompt")
    assert {pair for pair in drawn if pair[0] == 1} == _drawn(neurons, layers=[1])
    assert drawn != _drawn(neurons, seed=1)
    assert drawn != _drawn(make_neuron_set({**OVERLAPPING, "tr": []}, width=64))


def test_random_neurons_get_their_own_patch_values() -> None:
    neurons = make_neuron_set(OVERLAPPING, width=64)
    assert neurons.patch is not None
    assert neurons.patch.median is not None
    raw = {"languages": ["en", "fr"], "op": "set", "patch": "median", "factor": 2, "selection": "random"}
    edits = _as_dict(resolve(Intervention.from_dict(raw), neurons))
    assert edits
    for (layer, index), (mult, add, _) in edits.items():
        values = neurons.patch.median[:2, layer, index]
        assert mult == 0
        assert add == pytest.approx(2 * (float(values[0]) + float(values[1])) / 2, rel=1e-6)


def _same(first: Edits, second: Edits) -> bool:
    arrays = ("offsets", "indices", "mult", "add", "coef")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"patch": "median", "factor": 2},
        {"statistic": "p97.5", "layers": [1, 2]},
        {"non_target": {"op": "set", "factor": 0}},
    ],
)
def test_neurons_of_the_other_language_are_edited_like_a_target(change: dict[str, Any]) -> None:
    neurons = make_neuron_set(OVERLAPPING)
    raw = {"op": "set", "factor": 3, **change}
    control = Intervention.from_dict({**raw, "languages": ["fr"], "selection": "other", "other": "tr"})
    direct = Intervention.from_dict({**raw, "languages": ["tr"]})
    assert _same(resolve(control, neurons), resolve(direct, neurons))
    assert control.hash != direct.hash


def test_neurons_of_the_other_language_get_the_mean_weight() -> None:
    neurons = make_neuron_set(OVERLAPPING)
    raw = {"op": "scale", "factor": 3}
    weighted = {**raw, "languages": {"fr": 0.5, "en": 1.5}, "selection": "other", "other": "tr"}
    edits = resolve(Intervention.from_dict(weighted), neurons)
    assert _same(edits, resolve(Intervention.from_dict({**raw, "languages": ["tr"]}), neurons))


def test_the_other_language_must_be_in_the_set() -> None:
    raw = {"languages": ["fr"], "op": "scale", "factor": 2, "selection": "other", "other": "de"}
    with pytest.raises(UnknownName, match="en, fr, tr") as caught:
        resolve(Intervention.from_dict(raw), make_neuron_set(OVERLAPPING))
    assert caught.value.param == "intervention.other"


def test_an_unknown_language_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="en, fr, tr") as caught:
        resolve(Intervention.from_dict({"languages": ["de"], "op": "scale", "factor": 2}), make_neuron_set(OVERLAPPING))
    assert caught.value.param == "intervention.languages"


def test_a_layer_outside_the_model_is_rejected() -> None:
    raw = {"languages": ["fr"], "op": "scale", "factor": 2, "layers": [0, 3]}
    with pytest.raises(InvalidRequest, match="layers 0 to 2") as caught:
        resolve(Intervention.from_dict(raw), make_neuron_set(OVERLAPPING))
    assert caught.value.param == "intervention.layers"


def test_patch_values_are_rejected_if_the_set_has_none() -> None:
    raw = {"languages": ["fr"], "op": "set", "patch": "max"}
    with pytest.raises(InvalidRequest, match="no patch values") as caught:
        resolve(Intervention.from_dict(raw), make_neuron_set(OVERLAPPING, patch=False))
    assert caught.value.param == "intervention.patch"


def test_a_language_without_neurons_changes_nothing() -> None:
    edits = resolve(
        Intervention.from_dict({"languages": ["fr"], "op": "set", "patch": "max"}), make_neuron_set({"fr": []})
    )
    assert edits.offsets.tolist() == [0, 0, 0, 0]


UNEQUAL = (4, 30, 9)
OF_UNEQUAL = {"en": [(0, 1), (0, 3), (1, 29)], "fr": [(0, 3), (1, 2), (2, 8)], "tr": []}


def test_each_layer_has_its_own_width() -> None:
    neurons = make_neuron_set(OF_UNEQUAL, width=UNEQUAL)
    assert neurons.patch is not None
    assert neurons.patch.max is not None
    raw = {"languages": ["en", "fr"], "op": "set", "patch": "max", "factor": 2}
    edits = _as_dict(resolve(Intervention.from_dict(raw), neurons))
    first_of = {0: 0, 1: 4, 2: 34}
    expected = {}
    for pair in {*OF_UNEQUAL["en"], *OF_UNEQUAL["fr"]}:
        owners = [row for row, code in enumerate(("en", "fr")) if pair in OF_UNEQUAL[code]]
        expected[pair] = 2 * np.mean(neurons.patch.max[owners, first_of[pair[0]] + pair[1]])
    assert {pair: add for pair, (_, add, _) in edits.items()} == pytest.approx(expected, rel=1e-6)
    assert {pair for pair in edits if pair[0] == 1} == set(
        _as_dict(resolve(Intervention.from_dict({**raw, "layers": [1]}), neurons))
    )


def test_random_neurons_are_drawn_within_each_layers_width() -> None:
    neurons = make_neuron_set(OF_UNEQUAL, width=UNEQUAL)
    drawn = [pair for seed in range(40) for pair in _drawn(neurons, seed=seed)]
    assert {layer: max(index for each, index in drawn if each == layer) for layer in range(3)} == {0: 3, 1: 29, 2: 8}


def test_neurons_of_no_language_are_chosen_within_each_layer() -> None:
    neurons = make_neuron_set(OF_UNEQUAL, width=UNEQUAL)
    entropy = np.arange(43, dtype=np.float32)
    raw = {"languages": ["en"], "op": "scale", "factor": 2, "selection": "non_language"}
    chosen = _as_dict(resolve(Intervention.from_dict(raw), replace(neurons, entropy=entropy)))
    assert sorted(chosen) == [(0, 0), (0, 2), (1, 28)]


def test_only_the_named_neuron_is_edited_with_its_own_patch_value() -> None:
    neurons = make_neuron_set({"en": [(0, 1)], "fr": [(0, 1), (1, 4), (2, 2)]})
    raw = {"languages": ["fr"], "op": "set", "patch": "mean", "factor": 2, "neuron": [1, 4]}
    assert neurons.patch is not None
    expected = (0.0, 2 * float(neurons.patch.mean[1, 1, 4]), 0.0)
    assert _as_dict(resolve(Intervention.from_dict(raw), neurons)) == {(1, 4): pytest.approx(expected)}
    with_source = {**raw, "source": {"language": "en", "op": "set", "factor": 0}}
    edits = _as_dict(resolve(Intervention.from_dict(with_source), neurons))
    assert edits == {(1, 4): pytest.approx(expected), (0, 1): (0.0, 0.0, 0.0)}


@pytest.mark.parametrize("neuron", [[3, 0], [0, 8]])
def test_a_neuron_that_the_model_does_not_have_is_rejected(neuron: list[int]) -> None:
    raw = {"languages": ["fr"], "op": "scale", "factor": 2, "neuron": neuron}
    with pytest.raises(InvalidRequest, match="the model has 3 layers of 8 neurons") as caught:
        resolve(Intervention.from_dict(raw), make_neuron_set({"fr": [(0, 1)]}))
    assert caught.value.param == "intervention.neuron"
