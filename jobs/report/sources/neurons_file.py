"""`neurons.parquet` of a server's sweep, from the neuron set that its samples name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.errors import NotFound

Neurons = Mapping[str, Mapping[str, Sequence[int]]]
"""The neurons of a set: {language: {layer: [index, ...]}}."""
NEURONS = pa.schema([("language", pa.string()), ("layer", pa.int32()), ("neuron", pa.int32()), ("width", pa.int32())])
"""`neurons.parquet`: one row for each language and neuron of the sweep's neuron set.

`width` is the number of neurons of the layer; files of earlier versions lack it.
"""


def write_neurons_of(folder: Path, neurons_of: Callable[[str], Neurons]) -> None:
    """Write the neurons of the first neuron set in `results.parquet` next to that file, unless the set was deleted.

    Args:
        folder: The folder with the samples of a sweep.
        neurons_of: Returns the neurons of a set by its id; raises NotFound.
    """
    ids = pq.ParquetFile(folder / "results.parquet").read(columns=["neuron_set"])["neuron_set"].drop_null()
    if not len(ids):
        return
    try:
        neurons = neurons_of(ids[0].as_py())
    except NotFound:
        return
    rows = [
        {"language": language, "layer": int(layer), "neuron": index}
        for language, layers in neurons.items()
        for layer, indices in layers.items()
        for index in indices
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=NEURONS), folder / "neurons.parquet")
