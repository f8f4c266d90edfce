"""The contents of a neuron set's `metadata.json`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ampsweep.domain.neurons.neuron_set_metadata import NeuronSetMetadata

METADATA = NeuronSetMetadata(
    id="ns_1",
    model="tiny",
    fingerprint="f",
    layers=3,
    width=8,
    method="lape",
    params={"top_rate": 0.05},
    corpus="été",
    corpus_hash="c",
    languages={"fr": 2, "tr": 0},
    patch=("max", "median", "mean"),
    sha256="0" * 64,
)


def test_the_file_has_these_keys_and_values() -> None:
    assert json.loads(METADATA.to_json()) == {
        "format": 1,
        "id": "ns_1",
        "model": "tiny",
        "fingerprint": "f",
        "layers": 3,
        "width": 8,
        "method": "lape",
        "params": {"top_rate": 0.05},
        "corpus": "été",
        "corpus_hash": "c",
        "languages": {"fr": 2, "tr": 0},
        "patch": ["max", "median", "mean"],
        "sha256": "0" * 64,
    }


def test_a_written_file_is_parsed_to_the_same_metadata() -> None:
    assert NeuronSetMetadata.parse(METADATA.to_json()) == METADATA
    assert NeuronSetMetadata.parse(METADATA.to_json().encode()) == METADATA


def test_unknown_keys_are_ignored() -> None:
    assert NeuronSetMetadata.parse(json.dumps({**METADATA.to_dict(), "new": 1})) == METADATA


@pytest.mark.parametrize("key", METADATA.to_dict())
def test_a_missing_key_is_named(key: str) -> None:
    content = METADATA.to_dict()
    del content[key]
    with pytest.raises(KeyError, match=key):
        NeuronSetMetadata.parse(json.dumps(content))


@pytest.mark.parametrize(
    ("text", "error"), [("{", ValueError), ("[" * 100_000, ValueError), ("[]", TypeError), ("null", TypeError)]
)
def test_text_that_is_not_an_object_is_rejected(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        NeuronSetMetadata.parse(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", None),
        ("model", 5),
        ("fingerprint", None),
        ("method", ["lape"]),
        ("corpus", None),
        ("format", "1"),
        ("layers", True),
        ("params", [1]),
        ("languages", ["fr"]),
        ("languages", {"fr": "many"}),
        ("patch", "max"),
        ("patch", [5]),
        ("residual", [1]),
        ("residual", 5),
    ],
)
def test_a_value_of_another_type_is_rejected(key: str, value: object) -> None:
    with pytest.raises(TypeError) as refused:
        NeuronSetMetadata.parse(json.dumps({**METADATA.to_dict(), key: value}))
    assert "class" not in str(refused.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_parameter_that_is_no_number_is_rejected(number: str) -> None:
    text = json.dumps({**METADATA.to_dict(), "params": {"top_rate": float(number)}})
    with pytest.raises(ValueError, match=f"the number {number}, which JSON does not have"):
        NeuronSetMetadata.parse(text)


def test_layers_of_different_widths_are_a_list() -> None:
    unequal = replace(METADATA, width=(8, 8, 16))
    assert json.loads(unequal.to_json())["width"] == [8, 8, 16]
    assert NeuronSetMetadata.parse(unequal.to_json()) == unequal
    listed = {**METADATA.to_dict(), "width": [8, 8, 8]}
    assert NeuronSetMetadata.parse(json.dumps(listed)) == METADATA


def test_widths_that_do_not_fit_the_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="3 layers need as many"):
        NeuronSetMetadata.parse(json.dumps({**METADATA.to_dict(), "width": [8, 16]}))
