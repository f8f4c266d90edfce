from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.capture import CaptureSelection, capture_bytes, check_capturable, check_capture_size
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.validation import validate
from ampsweep.errors import CaptureTooLarge, InvalidRequest


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"neurons": [[0, 3], [2, 1]]}, ((0, 3), (2, 1))),
        ({"languages": ["fra_Latn", "ja"]}, ("fr", "ja")),
        ({"layers": [3, 1]}, (3, 1)),
    ],
)
def test_a_selection_is_of_one_kind(raw: dict[str, Any], expected: tuple[Any, ...]) -> None:
    selection = validate(CaptureSelection, raw)
    (kind,) = raw
    assert {name: value for name, value in selection if value is not None} == {kind: expected}


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({}, "select.neurons"),
        ({"layers": []}, "select.layers"),
        ({"layers": [1], "languages": ["fr"]}, "select.layers"),
        ({"layers": [1, 1]}, "select.layers"),
        ({"layers": ["1"]}, "select.layers.0"),
        ({"layers": [-1]}, "select.layers.0"),
        ({"neurons": [[1]]}, "select.neurons.0.1"),
        ({"neurons": [[1, 2], [1, 2]]}, "select.neurons"),
        ({"languages": ["fr", "fra_Latn"]}, "select.languages"),
        ({"heads": [1]}, "select.heads"),
    ],
)
def test_a_wrong_selection_is_named(raw: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        validate(CaptureSelection, raw, param="select")
    assert refused.value.param == param


def test_the_bytes_are_those_of_every_token_and_neuron() -> None:
    assert (capture_bytes(10, 7, "float16"), capture_bytes(10, 7, "float32")) == (140, 280)


def test_the_limit_may_be_reached_and_not_exceeded() -> None:
    check_capture_size(10, 7, "float16", limit=140, param="texts")
    with pytest.raises(CaptureTooLarge) as refused:
        check_capture_size(2**20, 7, "float32", limit=2**20, param="texts")
    assert (refused.value.param, refused.value.status, refused.value.code) == ("texts", 422, "capture_too_large")
    assert "7 neurons at 1048576 tokens take 28.0 MiB in float32, more than 1.0 MiB" in refused.value.message
    assert "fewer neurons, languages or layers, or float16" in refused.value.message
    with pytest.raises(CaptureTooLarge) as refused:
        check_capture_size(2**20, 7, "float16", limit=2**20, param="texts")
    assert "or float16" not in refused.value.message
    with pytest.raises(CaptureTooLarge, match=r"; raise the limit$"):
        check_capture_size(2**20, 7, "float32", limit=2**20, param="texts", remedy="raise the limit")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({}, None),
        ({"scope": "generation", "tokens": {"end": 3}}, None),
        ({"when": "drift"}, "when"),
        ({"part": "thinking"}, "part"),
        ({"part": "answer", "when": "drift"}, "when"),
    ],
)
def test_an_intervention_that_follows_a_running_text_cannot_be_captured(
    change: dict[str, Any], field: str | None
) -> None:
    intervention = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2, **change})
    check_capturable(None)
    if field is None:
        check_capturable(intervention)
        return
    with pytest.raises(
        InvalidRequest, match=rf"no running text .* leave {field} out, and give .* as tokens"
    ) as refused:
        check_capturable(intervention)
    assert refused.value.param == f"intervention.{field}"
