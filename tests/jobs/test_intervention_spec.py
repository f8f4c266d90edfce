from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from jobs.intervention_spec import parse_intervention

CODES = st.sampled_from(["en", "fr", "tr"])
WEIGHTS = st.dictionaries(CODES, st.sampled_from([1, 1.0]) | st.floats(-3, 3) | st.integers(-2, 2), min_size=1)
LANGUAGES = st.lists(CODES, min_size=1, unique=True) | WEIGHTS
PERCENTILES = st.floats(0, 100).map("p{:.4f}".format) | st.integers(0, 100).map("p{}".format)
STATISTICS = st.sampled_from(["mean", "std", "median", "max", "iqr", "mad"]) | PERCENTILES
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "factor": st.floats(-100, 100) | st.integers(-5, 5),
    "layers": st.just("all") | st.lists(st.integers(0, 40), min_size=1, unique=True),
    "scope": st.sampled_from(["all", "prompt", "generation"]),
    "selection": st.sampled_from([None, "random"]),
    "seed": st.integers(0, 2**63 - 1),
    "non_target": st.none() | st.fixed_dictionaries({"op": st.just("scale"), "factor": st.integers(0, 3)}),
    "statistic": st.none() | STATISTICS,
}


@given(
    raw=st.fixed_dictionaries({"languages": LANGUAGES, "op": st.sampled_from(["add", "set"])}, optional=OPTIONS),
    patch=st.sampled_from(["max", "median", "mean"]),
)
def test_the_complete_form_is_the_engines(raw: dict[str, Any], patch: str) -> None:
    if "factor" not in raw and raw.get("statistic") is None:
        raw["patch"] = patch
    complete = parse_intervention(raw).to_dict()
    assert complete == Intervention.from_dict(raw).to_dict()
    assert parse_intervention(complete).to_dict() == complete


def test_another_languages_neurons_have_a_complete_form_too() -> None:
    raw = {"languages": {"fr": 0.5}, "op": "scale", "factor": 2, "selection": "other", "other": "tr", "seed": 4}
    complete = parse_intervention(raw).to_dict()
    assert (complete["selection"], complete["other"], complete["seed"]) == ("other", "tr", 0)
    assert complete == Intervention.from_dict(raw).to_dict()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"languages": []}, "intervention.languages"),
        ({"languages": "fr"}, "intervention.languages"),
        ({"op": "grow"}, "intervention.op"),
        ({"factor": None}, "intervention.factor"),
        ({"factor": float("nan")}, "intervention.factor"),
        ({"patch": "max"}, "intervention.patch"),
        ({"statistic": "mean"}, "intervention.statistic"),
        ({"op": "set", "statistic": "mode"}, "intervention.statistic"),
        ({"op": "set", "statistic": "p100.5"}, "intervention.statistic"),
        ({"op": "set", "statistic": 5}, "intervention.statistic"),
        ({"op": "set", "statistic": "mean", "patch": "max"}, "intervention.statistic"),
        ({"languages": {}}, "intervention.languages"),
        ({"languages": {"fr": "2"}}, "intervention.languages.fr"),
        ({"languages": {"": 1}}, "intervention.languages."),
        ({"layers": [-1]}, "intervention.layers.0"),
        ({"layers": "each"}, "intervention.layers"),
        ({"selection": "other"}, "intervention.other"),
        ({"selection": "random", "other": "tr"}, "intervention.other"),
        ({"non_target": {"op": "scale"}}, "intervention.non_target.factor"),
        ({"colour": "red"}, "intervention.colour"),
    ],
)
def test_the_wrong_field_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_intervention({"languages": ["fr"], "op": "scale", "factor": 2, **change})
    assert caught.value.param == param
