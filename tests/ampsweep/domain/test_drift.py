"""The fields `when` and `part` of an intervention: their forms, what they mean, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ampsweep.domain.drift import Drift
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest

MINIMAL: dict[str, Any] = {"languages": ["fr"], "op": "scale", "factor": 5}


def test_the_word_means_the_defaults_and_every_form_comes_back() -> None:
    word = Intervention.from_dict({**MINIMAL, "when": "drift"})
    empty = Intervention.from_dict({**MINIMAL, "when": {"drift": {}}})
    assert word == empty
    assert word.when == Drift()
    public = json.loads(json.dumps(word.to_dict()))
    assert list(public["when"]["drift"].values()) == [60, 80, 30, 2, 2, 0.7]
    assert Intervention.from_dict(public) == Intervention.restore(public) == word
    slower = Intervention.from_dict({**MINIMAL, "when": {"drift": {"switch_off": 5}}})
    assert slower.when == Drift(switch_off=5)
    assert len({word.hash, slower.hash, Intervention.from_dict(MINIMAL).hash}) == 3


def test_its_label_names_the_settings_that_are_not_the_defaults() -> None:
    assert Drift().label == Drift(window=80).label == "drift"
    assert Drift(switch_on=1, window=120).label == "drift, window=120, switch_on=1"


def test_an_intervention_without_it_keeps_its_id() -> None:
    always = Intervention.from_dict({**MINIMAL, "when": None})
    assert always == Intervention.from_dict(MINIMAL)
    assert "when" not in always.to_dict()


def test_a_part_comes_back_and_is_left_out_where_it_is_not_used() -> None:
    thinking, answer = (Intervention.from_dict({**MINIMAL, "part": part}) for part in ("thinking", "answer"))
    assert Intervention.restore(thinking.to_dict()) == thinking
    assert len({thinking.hash, answer.hash, Intervention.from_dict(MINIMAL).hash}) == 3
    assert "part" not in Intervention.from_dict({**MINIMAL, "part": None}).to_dict()
    assert [each.text_field for each in (thinking, Intervention.from_dict(MINIMAL))] == ["part", None]


@pytest.mark.parametrize("change", [{"when": "drift"}, {"part": "answer"}])
def test_its_scope_is_the_answer_however_that_is_written(change: dict[str, Any]) -> None:
    short, long = ({**MINIMAL, **change, "scope": scope} for scope in ("all", "generation"))
    assert Intervention.from_dict(short) == Intervention.from_dict(long)
    assert Intervention.from_dict(short).scope == "generation"


@pytest.mark.parametrize(
    ("change", "param", "reason"),
    [
        ({"when": "always"}, "when", "'drift'"),
        ({"when": {"drift": {"windows": 3}}}, "when.drift.windows", "use one of: confidence, every"),
        ({"when": {"drift": {"window": 9}}}, "when.drift.window", "greater than or equal to 10"),
        ({"when": {"drift": {"switch_on": 0}}}, "when.drift.switch_on", "greater than or equal to 1"),
        ({"when": {"drift": {"every": 2.5}}}, "when.drift.every", "integer"),
        ({"when": {}}, "when.drift", "required"),
        ({"when": "drift", "scope": "prompt"}, "scope", "prompt with when"),
        ({"part": "thinking", "scope": "prompt"}, "scope", "prompt with part"),
        ({"part": "answer", "tokens": {"end": 3}}, "tokens", "combined with part"),
        ({"part": "thoughts"}, "part", "'thinking' or 'answer'"),
    ],
)
def test_what_it_cannot_mean_is_refused(change: dict[str, Any], param: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refused:
        Intervention.from_dict({**MINIMAL, **change})
    assert refused.value.param == f"intervention.{param}"
