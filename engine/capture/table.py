"""Captured activations as a Parquet file: one row for each text, token and layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ampsweep.domain.capture import MAX_FLOAT16
from ampsweep.domain.choices import CaptureDtype
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from engine.base import Capture, EngineInfo
from engine.capture.selection import NeuronSelection

METADATA = "ampsweep.capture"
"""Key of the file's metadata; its value is the JSON form of `CaptureSource`."""
ACTIVATIONS = "activations"
_GROUP_BYTES = 16 * 1024**2
"""Bytes of activations of a row group. Texts are written together until they have as many."""


@dataclass(frozen=True, kw_only=True)
class CaptureSource:
    """What the activations of a file are: of which model, neurons and intervention.

    Attributes:
        model: Name of the model.
        fingerprint: Fingerprint of its files.
        engine: Kind of the engine.
        model_dtype: The dtype in which the model computed them.
        adapter: The LoRA adapter, None for the model alone.
        adapter_fingerprint: Fingerprint of the adapter's files.
        neuron_set: Id of the neuron set that the selection or the intervention is of, None for none.
        intervention: The intervention in its JSON form, None for none.
    """

    model: str
    fingerprint: str
    engine: str
    model_dtype: str
    adapter: str | None
    adapter_fingerprint: str | None
    neuron_set: str | None
    intervention: Mapping[str, Any] | None

    @classmethod
    def of(
        cls, info: EngineInfo, *, adapter: str | None, neuron_set: str | None, intervention: Intervention | None
    ) -> CaptureSource:
        """Return the source of what an engine captures."""
        return cls(
            model=info.model,
            fingerprint=info.fingerprint,
            engine=info.kind,
            model_dtype=info.dtype,
            adapter=adapter,
            adapter_fingerprint=None if adapter is None else info.adapters.get(adapter),
            neuron_set=neuron_set,
            intervention=None if intervention is None else intervention.to_dict(),
        )

    def to_json(self, neurons: NeuronSelection) -> str:
        """Return the JSON form, with the neurons of each layer in the order in which the rows have them."""
        return json.dumps({**vars(self), "value": "before the layer's own edit", "neurons": neurons.to_dict()})


def capture_schema(neurons: NeuronSelection, dtype: CaptureDtype, source: CaptureSource) -> pa.Schema:
    """Return the schema of the file.

    `activations` is a list of fixed size if every layer has as many neurons, otherwise a list.
    """
    value = pa.field("element", pa.float16() if dtype == "float16" else pa.float32(), nullable=False)
    counts = set(neurons.counts)
    return pa.schema(
        [
            pa.field("text", pa.int32(), nullable=False),
            pa.field("text_id", pa.string(), nullable=False),
            pa.field("position", pa.int32(), nullable=False),
            pa.field("token_id", pa.int32(), nullable=False),
            pa.field("token", pa.string(), nullable=False),
            pa.field("layer", pa.int32(), nullable=False),
            pa.field(ACTIVATIONS, pa.list_(value, *(counts if len(counts) == 1 else ())), nullable=False),
        ],
        metadata={METADATA: source.to_json(neurons)},
    )


class CaptureWriter:
    """Writes captures to a Parquet file, a row group for every few megabytes.

    Args:
        sink: The path or the open file.
        neurons: The neurons of all captures.
        dtype: How activations are stored.
        source: What they are of.
    """

    def __init__(self, sink: Any, neurons: NeuronSelection, dtype: CaptureDtype, source: CaptureSource) -> None:
        self._neurons = neurons
        self._dtype = dtype
        self._schema = capture_schema(neurons, dtype, source)
        self._writer = pq.ParquetWriter(
            sink,
            self._schema,
            write_page_checksum=True,
            use_dictionary=["text", "text_id", "position", "token_id", "token", "layer"],
        )
        self._pending: list[pa.RecordBatch] = []
        self._texts = 0
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.close()

    def close(self) -> None:
        """Write what is pending, and complete the file."""
        self._flush()
        self._writer.close()

    def add(self, text_id: str, capture: Capture) -> None:
        """Write the rows of the next text.

        Raises:
            InvalidRequest: float16 cannot hold an activation (param "dtype").
        """
        batch = _batch(self._texts, text_id, capture, self._neurons, self._dtype, self._schema)
        self._texts += 1
        self.rows += batch.num_rows
        self._pending.append(batch)
        if sum(pending.nbytes for pending in self._pending) >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_batches(self._pending, schema=self._schema))
            self._pending.clear()


def _batch(
    text: int, text_id: str, capture: Capture, neurons: NeuronSelection, dtype: CaptureDtype, schema: pa.Schema
) -> pa.RecordBatch:
    """Return the rows of a text: of its first token in every layer, then of its second token, and so on."""
    tokens, layers = len(capture.token_ids), len(neurons.layers)
    rows = tokens * layers
    values = np.concatenate(capture.activations, axis=1)  # [T, all neurons]
    flat = pa.array((_as_float16(values, text_id, neurons) if dtype == "float16" else values).ravel())
    kind = schema.field(ACTIVATIONS).type
    if pa.types.is_fixed_size_list(kind):
        activations = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    else:
        offsets = np.concatenate([[0], np.cumsum(np.tile(neurons.counts, tokens))]).astype(np.int32)
        activations = pa.ListArray.from_arrays(pa.array(offsets), flat, type=kind)
    columns = [
        pa.array(np.full(rows, text, dtype=np.int32)),
        pa.array([text_id] * rows, pa.string()),
        pa.array(np.repeat(np.arange(tokens, dtype=np.int32), layers)),
        pa.array(np.repeat(np.array(capture.token_ids, dtype=np.int32), layers)),
        pa.array([token for token in capture.token_texts for _ in range(layers)], pa.string()),
        pa.array(np.tile(np.array(neurons.layers, dtype=np.int32), tokens)),
        activations,
    ]
    return pa.record_batch(columns, schema=schema)


def _as_float16(values: NDArray[np.float32], text_id: str, neurons: NeuronSelection) -> NDArray[np.float16]:
    """Return activations [T, N] as float16; raise InvalidRequest if one is finite, but not in float16."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    outside = np.argwhere(np.isinf(halves) & np.isfinite(values))
    if len(outside):
        token, column = outside[0]
        place = int(np.searchsorted(np.cumsum(neurons.counts), column, side="right"))
        index = neurons.indices[place][column - sum(neurons.counts[:place])]
        raise InvalidRequest(
            f"{len(outside)} activations are above {MAX_FLOAT16:.0f}, the largest number of float16: the first is "
            f"{values[token, column]:g}, at token {token} of text {text_id}, of neuron {index} in layer "
            f"{neurons.layers[place]}; capture in float32",
            param="dtype",
        )
    return halves
