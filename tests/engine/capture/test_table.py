from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.domain.choices import CaptureDtype
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from engine.base import Capture
from engine.capture.selection import NeuronSelection
from engine.capture.table import METADATA, CaptureSource, CaptureWriter
from engine.fake import FAKE_INFO

EVEN = NeuronSelection.of({1: np.array([4, 7]), 3: np.array([0, 2])})
UNEVEN = NeuronSelection.of({1: np.array([4]), 3: np.array([0, 2, 5])})
SOURCE = CaptureSource(
    model="tiny",
    fingerprint="f",
    engine="fake",
    model_dtype="float32",
    adapter=None,
    adapter_fingerprint=None,
    neuron_set="ns_1",
    intervention={"op": "scale"},
)


def capture_of(neurons: NeuronSelection, tokens: int, start: float = 0.0) -> Capture:
    """Return activations that count up by a quarter, through the tokens of the first layer, then of the second."""
    sizes = [tokens * count for count in neurons.counts]
    flat = np.split((start + np.arange(sum(sizes)) / 4).astype(np.float32), np.cumsum(sizes)[:-1])
    return Capture(
        token_ids=tuple(range(10, 10 + tokens)),
        token_texts=tuple(f"t{position}" for position in range(tokens)),
        activations=tuple(part.reshape(tokens, count) for part, count in zip(flat, neurons.counts, strict=True)),
    )


def written(neurons: NeuronSelection, dtype: CaptureDtype, *captures: Capture) -> pa.Table:
    sink = io.BytesIO()
    with CaptureWriter(sink, neurons, dtype, SOURCE) as writer:
        for number, capture in enumerate(captures):
            writer.add(f"text-{number}", capture)
    table = pq.read_table(io.BytesIO(sink.getvalue()))
    assert writer.rows == table.num_rows
    return table


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("neurons", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_a_row_has_the_activations_of_a_token_in_a_layer(neurons: NeuronSelection, dtype: CaptureDtype) -> None:
    captures = capture_of(neurons, 3), capture_of(neurons, 1, start=-5.0)
    table = written(neurons, dtype, *captures)
    assert table.column_names == ["text", "text_id", "position", "token_id", "token", "layer", "activations"]
    expected = [
        {
            "text": text,
            "text_id": f"text-{text}",
            "position": position,
            "token_id": 10 + position,
            "token": f"t{position}",
            "layer": layer,
            "activations": capture.activations[place][position].tolist(),
        }
        for text, capture in enumerate(captures)
        for position in range(len(capture.token_ids))
        for place, layer in enumerate(neurons.layers)
    ]
    assert table.to_pylist() == expected
    value = pa.float16() if dtype == "float16" else pa.float32()
    kind = table.schema.field("activations").type
    assert kind.value_type == value
    assert pa.types.is_fixed_size_list(kind) == (neurons is EVEN)
    if neurons is EVEN:
        assert kind.list_size == 2


def test_the_metadata_say_which_neurons_the_activations_are_of() -> None:
    metadata = written(UNEVEN, "float16", capture_of(UNEVEN, 2)).schema.metadata
    content = json.loads(metadata[METADATA.encode()])
    assert content["neurons"] == {"1": [4], "3": [0, 2, 5]}
    assert (content["model"], content["neuron_set"], content["intervention"]) == ("tiny", "ns_1", {"op": "scale"})
    assert content["value"] == "before the layer's own edit"


def test_the_source_is_that_of_the_engine() -> None:
    info = replace(FAKE_INFO, adapters={"formal": "a" * 64})
    steering = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2})
    source = CaptureSource.of(info, adapter="formal", neuron_set="ns_1", intervention=steering)
    assert (source.model, source.fingerprint) == (FAKE_INFO.model, FAKE_INFO.fingerprint)
    assert (source.engine, source.model_dtype) == (FAKE_INFO.kind, FAKE_INFO.dtype)
    assert (source.adapter, source.adapter_fingerprint, source.neuron_set) == ("formal", "a" * 64, "ns_1")
    assert source.intervention == steering.to_dict()
    plain = CaptureSource.of(info, adapter=None, neuron_set=None, intervention=None)
    assert (plain.adapter, plain.adapter_fingerprint, plain.intervention) == (None, None, None)


def test_a_file_without_tokens_of_any_text_cannot_come_about_but_one_without_texts_can_be_read() -> None:
    assert written(EVEN, "float16").num_rows == 0


def test_what_float16_cannot_hold_is_refused_with_its_place() -> None:
    capture = capture_of(UNEVEN, 3)
    capture.activations[1][2, 1] = -70_000.0
    with pytest.raises(InvalidRequest) as refused:
        written(UNEVEN, "float16", capture_of(UNEVEN, 1), capture)
    assert refused.value.param == "dtype"
    assert "token 2 of text text-1, of neuron 2 in layer 3" in refused.value.message
    assert "-70000" in refused.value.message
    table = written(UNEVEN, "float32", capture)
    assert table["activations"].to_pylist()[5] == capture.activations[1][2].tolist()


def test_an_activation_that_is_infinite_or_unreached_in_the_model_stays_so() -> None:
    capture = capture_of(EVEN, 2)
    capture.activations[0][0] = [np.inf, np.nan]
    capture.activations[1][1] = [65_504.0, -np.inf]
    rows = written(EVEN, "float16", capture)["activations"].to_pylist()
    np.testing.assert_array_equal(rows[0], [np.inf, np.nan])
    assert rows[3] == [65_504.0, -np.inf]


def test_row_groups_hold_several_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.capture.table._GROUP_BYTES", 400)
    sink = io.BytesIO()
    with CaptureWriter(sink, EVEN, "float16", SOURCE) as writer:
        for number in range(20):
            writer.add(str(number), capture_of(EVEN, 2))
    groups = pq.ParquetFile(io.BytesIO(sink.getvalue())).num_row_groups
    assert 1 < groups < 20
