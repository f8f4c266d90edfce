from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.edited_tokens import EditedTokens
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest

RAW: dict[str, Any] = {"languages": ["fr"], "op": "scale", "factor": 5, "scope": "prompt"}
DECAY = {"decay": st.floats(0, 1, exclude_min=True, exclude_max=True)}
SLICES = st.fixed_dictionaries({}, optional={"start": st.integers(-9, 9), "end": st.integers(-9, 9), **DECAY})
LISTS = st.fixed_dictionaries({"positions": st.lists(st.integers(-9, 9), min_size=1, unique=True)}, optional=DECAY)


def made(tokens: object, **change: object) -> Intervention:
    return Intervention.from_dict({**RAW, "tokens": tokens, **change})


@given(raw=SLICES | LISTS)
def test_the_public_form_survives_json_a_pickle_and_a_second_validation(raw: dict[str, Any]) -> None:
    slices = [range(length)[raw.get("start") : raw.get("end")] for length in range(30)]
    if not any(slices):
        with pytest.raises(InvalidRequest, match="give an end after the start") as caught:
            made(raw)
        assert caught.value.param == "intervention.tokens.end"
        return
    intervention = made(raw)
    public = intervention.to_dict()
    assert Intervention.from_dict(public) == intervention
    assert Intervention.restore(json.loads(json.dumps(public))) == intervention
    assert pickle.loads(pickle.dumps(intervention)).hash == intervention.hash


def test_tokens_are_part_of_the_form_and_of_the_hash_only_where_there_are_some() -> None:
    plain = Intervention.from_dict(RAW)
    assert "tokens" not in plain.to_dict()
    for every_token in ({}, {"start": 0}, {"start": None, "end": None}, None):
        assert made(every_token) == plain
    first, last, listed = made({"end": 8}), made({"start": -4}), made({"positions": [3, 0]})
    assert first.to_dict() == {**plain.to_dict(), "tokens": {"end": 8}}
    assert listed.to_dict()["tokens"] == {"positions": [0, 3]}
    assert listed == made({"positions": [0, 3]})
    others = [made({"end": 9}), made({"decay": 0.5}), made({"end": 8, "decay": 0.5})]
    assert len({each.hash for each in (plain, first, last, listed, *others)}) == 7
    assert [each.tokens and each.tokens.label for each in (first, last, listed)] == [
        "end=8",
        "start=-4",
        "positions=0 3",
    ]
    assert EditedTokens(start=2, end=8, decay=0.9).label == "start=2, end=8, decay=0.9"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tokens": {"first": 3}}, "tokens.first"),
        ({"tokens": {"start": 1.0}}, "tokens.start"),
        ({"tokens": {"start": 2**31}}, "tokens.start"),
        ({"tokens": {"end": 0}}, "tokens.end"),
        ({"tokens": {"start": 3, "end": 3}}, "tokens.end"),
        ({"tokens": {"start": -2, "end": -3}}, "tokens.end"),
        ({"tokens": {"positions": []}}, "tokens.positions"),
        ({"tokens": {"positions": [1, 1]}}, "tokens.positions"),
        ({"tokens": {"positions": [1, True]}}, "tokens.positions.1"),
        ({"tokens": {"positions": [1], "start": 1}}, "tokens.positions"),
        ({"tokens": {"positions": [1], "end": 2}}, "tokens.positions"),
        ({"tokens": {"decay": 0}}, "tokens.decay"),
        ({"tokens": {"decay": 1}}, "tokens.decay"),
        ({"tokens": {"decay": "0.5"}}, "tokens.decay"),
        ({"tokens": {"start": -1}, "scope": "generation"}, "tokens.start"),
        ({"tokens": {"end": -1}, "scope": "all"}, "tokens.end"),
        ({"tokens": {"positions": [2, -1]}, "scope": "all"}, "tokens.positions"),
        ({"tokens": [1]}, "tokens"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Intervention.from_dict({**RAW, **change})
    assert caught.value.param == f"intervention.{field}"


def test_the_error_about_a_negative_position_says_what_it_goes_with() -> None:
    with pytest.raises(InvalidRequest, match="goes with scope prompt, not generation; got -2"):
        made({"start": -2}, scope="generation")


def test_a_vector_takes_tokens_too() -> None:
    vector = made({"end": 1}, op="add", vector="diffmean")
    assert vector.tokens == EditedTokens(end=1)
