from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.choices import OPS
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.validation import StrictModel, validate
from ampsweep.errors import InvalidRequest

MINIMAL: dict[str, Any] = {"languages": ["fr"], "op": "scale", "factor": 5}


@given(
    languages=st.lists(st.sampled_from(["en", "fr", "tr", "zh"]), min_size=1, unique=True),
    layers=st.none() | st.lists(st.integers(0, 30), min_size=1, unique=True),
    seed=st.randoms(),
)
def test_order_and_spelling_do_not_change_the_hash(languages: list[str], layers: list[int] | None, seed: Any) -> None:
    first = {"languages": languages, "op": "add", "factor": 2, "layers": layers or "all"}
    shuffled = list(languages)
    seed.shuffle(shuffled)
    second = dict(reversed(list({**first, "factor": 2.0, "languages": shuffled, "patch": None, "seed": 9}.items())))
    if layers:
        second["layers"] = sorted(layers, reverse=True)
    one, two = Intervention.from_dict(first), Intervention.from_dict(second)
    assert one == two
    assert one.hash == two.hash


def test_minus_zero_is_zero() -> None:
    def of(zero: float) -> Intervention:
        further = {"op": "set", "factor": zero}
        more = {"factor": zero, "non_target": further, "source": {"language": "en", **further}}
        return Intervention.from_dict({**MINIMAL, "languages": {"fr": zero, "tr": 2.0}, **more})

    assert of(-0.0).hash == of(0.0).hash


def test_a_language_has_its_two_letter_code_however_it_is_asked_for() -> None:
    raw = {**MINIMAL, "selection": "other"}
    long = Intervention.from_dict({**raw, "languages": {"fra_Latn": 0.5, "cmn_Hans": 2}, "other": "zsm_Latn"})
    assert long == Intervention.from_dict({**raw, "languages": {"zh": 2, "fr": 0.5}, "other": "ms"})
    assert (long.languages, long.weights, long.other) == (("fr", "zh"), (0.5, 2.0), "ms")


@pytest.mark.parametrize("languages", [["fr", "fra_Latn"], {"fr": 1, "fra_Latn": 2}])
def test_one_language_under_two_codes_is_refused_by_both(languages: Any) -> None:
    with pytest.raises(InvalidRequest, match="fr and fra_Latn are one language") as refused:
        Intervention.from_dict({**MINIMAL, "languages": languages})
    assert refused.value.param == "intervention.languages"


@pytest.mark.processes
def test_the_hash_is_the_same_in_another_process() -> None:
    command = f"from ampsweep.domain.intervention import Intervention as I; print(I.from_dict({MINIMAL!r}).hash)"
    other = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == Intervention.from_dict(MINIMAL).hash


@pytest.mark.parametrize(
    "change",
    [
        {"languages": ["fr", "en"]},
        {"op": "add"},
        {"factor": 5.5},
        {"op": "set", "patch": "max"},
        {"layers": [0]},
        {"scope": "prompt"},
        {"selection": "random"},
        {"selection": "random", "seed": 1},
        {"selection": "other", "other": "tr"},
        {"selection": "other", "other": "it"},
        {"non_target": {"op": "scale", "factor": 0}},
        {"source": {"language": "en", "op": "set", "factor": 0}},
        {"when": "drift"},
        {"part": "thinking"},
    ],
)
def test_every_field_changes_the_hash(change: dict[str, Any]) -> None:
    assert Intervention.from_dict({**MINIMAL, **change}).hash != Intervention.from_dict(MINIMAL).hash


def test_the_seed_tells_random_neurons_apart() -> None:
    first, second = ({**MINIMAL, "selection": "random", "seed": seed} for seed in (0, 1))
    assert Intervention.from_dict(first).hash != Intervention.from_dict(second).hash


def test_the_public_form_comes_back() -> None:
    raw = {**MINIMAL, "op": "set", "patch": "median", "layers": [2, 1], "non_target": {"op": "add", "factor": -1}}
    intervention = Intervention.from_dict(raw)
    public = json.loads(json.dumps(intervention.to_dict()))
    assert Intervention.from_dict(public) == intervention
    assert public["layers"] == [1, 2]


CODES = st.sampled_from(["en", "fr", "tr"])
WEIGHTS = st.dictionaries(CODES, st.sampled_from([1, 1.0]) | st.floats(-3, 3) | st.integers(-2, 2), min_size=1)
PERCENTILES = st.floats(0, 100).map("p{:.4f}".format) | st.integers(0, 100).map("p{}".format)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "factor": st.floats(-100, 100) | st.integers(-5, 5),
    "layers": st.just("all") | st.lists(st.integers(0, 40), min_size=1, unique=True),
    "scope": st.sampled_from(["all", "prompt", "generation"]),
    "selection": st.sampled_from([None, "random"]),
    "seed": st.integers(0, 2**63 - 1),
    "non_target": st.none() | st.fixed_dictionaries({"op": st.just("scale"), "factor": st.integers(0, 3)}),
    "source": st.none()
    | st.fixed_dictionaries({"language": CODES, "op": st.sampled_from(["set", "scale"]), "factor": st.integers(0, 3)}),
    "statistic": st.none() | st.sampled_from(["mean", "std", "median", "max", "iqr", "mad"]) | PERCENTILES,
}
LANGUAGES = st.lists(CODES, min_size=1, unique=True) | WEIGHTS


@given(
    raw=st.fixed_dictionaries({"languages": LANGUAGES, "op": st.sampled_from(["add", "set"])}, optional=OPTIONS),
    patch=st.sampled_from(["max", "median", "mean"]),
)
def test_the_public_form_survives_json_a_pickle_and_a_second_validation(raw: dict[str, Any], patch: str) -> None:
    if "factor" not in raw and raw.get("statistic") is None:
        raw["patch"] = patch
    intervention = Intervention.from_dict(raw)
    public = intervention.to_dict()
    assert Intervention.from_dict(public) == intervention
    assert Intervention.restore(json.loads(json.dumps(public))) == intervention
    assert pickle.loads(pickle.dumps(intervention)).to_dict() == public
    languages = raw["languages"]
    if isinstance(languages, dict) and set(languages.values()) != {1}:
        assert public["languages"] == languages
    else:
        assert public["languages"] == sorted(languages)
    assert public["seed"] == (raw.get("seed", 0) if raw.get("selection") == "random" else 0)
    layers = raw.get("layers", "all")
    assert public["layers"] == (layers if layers == "all" else sorted(layers))


@pytest.mark.parametrize("wrong", [{"op": "scale"}, {"factor": 1}, {"factor": None, "patch": "max"}])
def test_the_control_zero_is_set_to_0(wrong: dict[str, Any]) -> None:
    zero = {**MINIMAL, "op": "set", "factor": 0, "selection": "zero"}
    assert Intervention.from_dict(zero).selection == "zero"
    with pytest.raises(InvalidRequest, match="give op set and factor 0") as refused:
        Intervention.from_dict({**zero, **wrong})
    assert refused.value.param == "intervention.selection"


def test_a_source_that_is_a_target_is_no_source() -> None:
    source = {"op": "set", "factor": 0}
    intervention = Intervention.from_dict({**MINIMAL, "source": {**source, "language": "fra_Latn"}})
    assert intervention == Intervention.from_dict(MINIMAL)
    assert "source" not in intervention.to_dict()
    other = Intervention.from_dict({**MINIMAL, "source": {**source, "language": "en"}})
    assert other.to_dict()["source"] == {"language": "en", "op": "set", "factor": 0.0}


@pytest.mark.parametrize("op", ["set", "scale"])
def test_a_difference_is_only_added(op: str) -> None:
    with pytest.raises(InvalidRequest, match="goes with op" if op == "scale" else "goes with op add") as refused:
        Intervention.from_dict({**MINIMAL, "op": op, "patch": "difference"})
    assert refused.value.param == "intervention.patch"
    added = Intervention.from_dict({**MINIMAL, "op": "add", "patch": "difference", "languages": {"fr": -0.5}})
    assert (added.patch, added.weights) == ("difference", (-0.5,))


def test_the_form_of_another_languages_neurons_is_complete() -> None:
    raw = {"languages": {"fr": 0.5}, "op": "scale", "factor": 2, "selection": "other", "other": "tr", "seed": 4}
    assert Intervention.from_dict(raw).to_dict() == {
        "languages": {"fr": 0.5},
        "op": "scale",
        "factor": 2.0,
        "patch": None,
        "statistic": None,
        "layers": "all",
        "scope": "all",
        "selection": "other",
        "seed": 0,
        "non_target": None,
        "other": "tr",
    }


def test_a_form_stored_before_statistics_and_other_languages_is_read() -> None:
    stored = Intervention.from_dict(MINIMAL).to_dict()
    del stored["statistic"], stored["other"]
    assert Intervention.restore(stored) == Intervention.from_dict(MINIMAL)


def test_values_are_canonical_however_they_are_made() -> None:
    raw = {"languages": {"tr": 0.5, "fr": 2}, "op": "add", "factor": 3, "layers": [4, 2]}
    made = Intervention(languages=("tr", "fr"), weights=(0.5, 2), op="add", factor=3, layers=(4, 2), seed=9)
    assert made == Intervention.from_dict(raw)
    assert (made.languages, made.weights, made.layers, made.seed) == (("fr", "tr"), (2.0, 0.5), (2, 4), 0)
    assert replace(made, weights=(1, 1)).weights is None
    assert replace(made, selection="random", seed=9).seed == 9
    assert len({made, Intervention.from_dict(raw), replace(made, factor=4)}) == 2


class Request(StrictModel):
    """A request with an intervention."""

    steering: Intervention | None = None


def test_a_request_has_an_intervention_as_a_field() -> None:
    request = validate(Request, {"steering": {**MINIMAL, "layers": [1]}})
    assert request.steering == Intervention.from_dict({**MINIMAL, "layers": [1]})
    assert validate(Request, {}).steering is None
    with pytest.raises(InvalidRequest) as refused:
        validate(Request, {"steering": {**MINIMAL, "layers": [1, -1]}}, param="body")
    assert refused.value.param == "body.steering.layers.1"
    schema = Request.model_json_schema()
    assert schema["$defs"]["InterventionSpec"]["properties"]["op"]["enum"] == list(OPS)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"languages": []}, "intervention.languages"),
        ({"languages": "fr"}, "intervention.languages"),
        ({"languages": [""]}, "intervention.languages.0"),
        ({"languages": ["fr", "fr"]}, "intervention.languages"),
        ({"languages": ["x" * 201]}, "intervention.languages.0"),
        ({"languages": {"": 1}}, "intervention.languages."),
        ({"languages": {"fr": "2"}}, "intervention.languages.fr"),
        ({"languages": {}}, "intervention.languages"),
        ({"languages": {"fr": None}}, "intervention.languages.fr"),
        ({"languages": {"fr": math.inf}}, "intervention.languages.fr"),
        ({"weights": [1.0]}, "intervention.weights"),
        ({"op": "amplify"}, "intervention.op"),
        ({"op": None}, "intervention.op"),
        ({"factor": None}, "intervention.factor"),
        ({"factor": math.nan}, "intervention.factor"),
        ({"factor": 10**400}, "intervention.factor"),
        ({"factor": -1_000_001}, "intervention.factor"),
        ({"languages": {"fr": 10**400}}, "intervention.languages.fr"),
        ({"factor": True}, "intervention.factor"),
        ({"factor": "5"}, "intervention.factor"),
        ({"patch": "max"}, "intervention.patch"),
        ({"op": "set", "patch": "min"}, "intervention.patch"),
        ({"layers": []}, "intervention.layers"),
        ({"layers": None}, "intervention.layers"),
        ({"layers": "each"}, "intervention.layers"),
        ({"layers": [1, 1]}, "intervention.layers"),
        ({"layers": [0, -1]}, "intervention.layers.1"),
        ({"layers": [10_000]}, "intervention.layers.0"),
        ({"layers": [True]}, "intervention.layers.0"),
        ({"scope": "answer"}, "intervention.scope"),
        ({"selection": "best"}, "intervention.selection"),
        ({"selection": "other"}, "intervention.other"),
        ({"other": "tr"}, "intervention.other"),
        ({"selection": "random", "other": "tr"}, "intervention.other"),
        ({"selection": "other", "other": ["tr"]}, "intervention.other"),
        ({"seed": -1}, "intervention.seed"),
        ({"statistic": "mean"}, "intervention.statistic"),
        ({"op": "set", "statistic": "mode"}, "intervention.statistic"),
        ({"op": "set", "statistic": "percentile"}, "intervention.statistic"),
        ({"op": "set", "statistic": "p101"}, "intervention.statistic"),
        ({"op": "set", "statistic": "p100.5"}, "intervention.statistic"),
        ({"op": "set", "statistic": "p-1"}, "intervention.statistic"),
        ({"op": "set", "statistic": "p1e1"}, "intervention.statistic"),
        ({"op": "set", "statistic": 5}, "intervention.statistic"),
        ({"op": "set", "statistic": "mean", "patch": "max"}, "intervention.statistic"),
        ({"non_target": {"op": "scale"}}, "intervention.non_target.factor"),
        ({"non_target": {"op": "scale", "factor": 1, "patch": "max"}}, "intervention.non_target.patch"),
        ({"op": "add", "vector": "mean"}, "intervention.vector"),
        ({"op": "scale", "vector": "diffmean"}, "intervention.op"),
        ({"op": "add", "vector": "diffmean", "factor": None}, "intervention.factor"),
        ({"op": "add", "vector": "diffmean", "patch": "max"}, "intervention.patch"),
        ({"op": "add", "vector": "diffmean", "statistic": "mean"}, "intervention.statistic"),
        ({"op": "add", "vector": "diffmean", "non_target": {"op": "set", "factor": 0}}, "intervention.non_target"),
        ({"op": "add", "vector": "diffmean", "selection": "other", "other": "tr"}, "intervention.selection"),
        ({"op": "add", "vector": "diffmean", "neuron": [0, 1]}, "intervention.neuron"),
        ({"strength": 1}, "intervention.strength"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Intervention.from_dict({**MINIMAL, **change})
    assert caught.value.param == param


def test_a_vector_is_part_of_the_form_and_of_the_hash_only_where_there_is_one() -> None:
    add = {"languages": ["fr"], "op": "add", "factor": 4, "layers": [7, 6], "selection": "random", "seed": 3}
    plain = Intervention.from_dict(add)
    raw, unit = (Intervention.from_dict({**add, "vector": vector}) for vector in ("diffmean_raw", "diffmean"))
    assert "vector" not in plain.to_dict()
    assert Intervention.from_dict({**add, "vector": None}) == plain
    assert unit.to_dict() == {**plain.to_dict(), "vector": "diffmean"}
    assert len({each.hash for each in (plain, raw, unit)}) == 3
    assert Intervention.restore(json.loads(json.dumps(unit.to_dict()))) == unit


def test_a_patch_value_alone_is_a_magnitude() -> None:
    assert Intervention.from_dict({"languages": ["fr"], "op": "set", "patch": "max"}).factor == 1.0


def test_a_statistic_alone_is_a_magnitude() -> None:
    assert Intervention.from_dict({"languages": ["fr"], "op": "add", "statistic": "std"}).factor == 1.0


@given(percent=st.floats(0, 100))
def test_a_percentile_has_one_spelling(percent: float) -> None:
    spelt = [f"p{percent:.4f}", f"p{percent:.4f}".rstrip("0").removesuffix("."), f"p{percent:08.4f}"]
    made = [Intervention.from_dict({**MINIMAL, "op": "set", "statistic": word}) for word in spelt]
    assert len({each.hash for each in made}) == 1
    assert Intervention.from_dict(made[0].to_dict()) == made[0]


def test_weights_of_1_are_the_plain_list_and_others_are_not() -> None:
    plain, ones, halves, swapped = (
        Intervention.from_dict({**MINIMAL, "languages": languages})
        for languages in (["tr", "fr"], {"tr": 1, "fr": 1.0}, {"fr": 0.5, "tr": 1}, {"tr": 0.5, "fr": 1})
    )
    assert plain == ones
    assert plain.hash == ones.hash
    assert len({plain.hash, halves.hash, swapped.hash}) == 3
    assert halves.to_dict()["languages"] == {"fr": 0.5, "tr": 1.0}
    assert Intervention.from_dict(halves.to_dict()) == halves


@pytest.mark.processes
def test_no_torch_is_imported() -> None:
    command = (
        "import sys, ampsweep.domain.intervention, engine.fake, engine.neurons.formats.neuron_json;"
        "import engine.identify.identification;"
        "print('torch' in sys.modules)"
    )
    other = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == "False"


@pytest.mark.parametrize("languages", [[False], {False: 1.0}], ids=str)
def test_a_code_that_yaml_reads_as_a_boolean_is_named(languages: Any) -> None:
    with pytest.raises(InvalidRequest, match='YAML reads no as false; quote it: "no"') as refused:
        Intervention.from_dict({"languages": languages, "op": "scale", "factor": 2})
    assert refused.value.param == "intervention.languages.0"


def test_a_neuron_is_part_of_the_form_and_of_the_hash_only_where_there_is_one() -> None:
    raw = {"languages": ["fr"], "op": "set", "factor": 0}
    plain, single = Intervention.from_dict(raw), Intervention.from_dict({**raw, "neuron": [3, 17]})
    assert "neuron" not in plain.to_dict()
    assert single.neuron == (3, 17)
    assert single.to_dict() == {**plain.to_dict(), "neuron": [3, 17]}
    assert Intervention.restore(single.to_dict()) == single
    assert len({plain.hash, single.hash, Intervention.from_dict({**raw, "neuron": [3, 18]}).hash}) == 3


@pytest.mark.parametrize("neuron", [[3], [3, -1], [3, 17, 1], "3", [[3, 17]], [3.5, 1]])
def test_a_neuron_is_a_layer_and_an_index(neuron: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": 0, "neuron": neuron})
    assert caught.value.param is not None
    assert caught.value.param.startswith("intervention.neuron")


def test_a_single_neuron_has_no_control() -> None:
    raw = {"languages": ["fr"], "op": "scale", "factor": 2, "neuron": [3, 17], "selection": "random"}
    with pytest.raises(InvalidRequest, match="does not go with selection random") as caught:
        Intervention.from_dict(raw)
    assert caught.value.param == "intervention.neuron"
