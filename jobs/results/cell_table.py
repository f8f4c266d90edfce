"""Content of a cell's Parquet file: samples as columns, and as metadata what computed them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.errors import DamagedFile
from ampsweep.hashing import canonical_json
from jobs.cell import Cell
from jobs.results import metadata_keys as keys
from jobs.results.schema import CELL, cell_columns
from jobs.sample import Sample


@dataclass(frozen=True, kw_only=True)
class CellTable:
    """The samples of a cell and how it was computed.

    Attributes:
        cell: The cell.
        table: The samples, with the columns of `jobs.results.schema.CELL`.
        left_out: Number of items that the task left out.
        neurons: Number of neurons that the intervention changed.
        versions: Versions of the software that computed the samples.
    """

    cell: Cell
    table: pa.Table
    left_out: int
    neurons: int
    versions: Mapping[str, str]


def to_table(
    cell: Cell, *, epoch: int, samples: Sequence[Sample], left_out: int, neurons: int, versions: Mapping[str, str]
) -> pa.Table:
    """Return the samples of a cell as a table with metadata; see `CellTable` for the arguments."""
    shared = cell_columns(cell)
    arrays = [
        pa.repeat(pa.scalar(shared[field.name], field.type), len(samples))
        if field.name in shared
        else pa.array([getattr(sample, field.name) for sample in samples], field.type)
        for field in CELL
    ]
    values = {
        keys.CELL: canonical_json(cell.to_dict()),
        keys.EPOCH: str(epoch),
        keys.LEFT_OUT: str(left_out),
        keys.NEURONS: str(neurons),
        keys.VERSIONS: canonical_json(dict(versions)),
    }
    return pa.Table.from_arrays(arrays, schema=CELL.with_metadata(values))


def from_bytes(content: bytes, name: str) -> CellTable:
    """Read the content of a cell's file.

    Files of earlier versions lack columns at the end. These are filled with the value that follows from the cell, or
    with null.

    Args:
        content: The bytes of the file.
        name: The name of the file, for errors.

    Raises:
        DamagedFile: if the content is not Parquet, or not that of a cell.
    """
    try:
        table = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read(use_threads=False)
        values = keys.read_metadata(table.schema)
        cell = Cell.from_dict(json.loads(values[keys.CELL]))
        left_out, neurons = int(values[keys.LEFT_OUT]), int(values[keys.NEURONS])
        versions = json.loads(values[keys.VERSIONS])
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{name} cannot be read: {error}") from error
    added = list(CELL)[len(table.schema) :]  # after the file was written
    shared = cell_columns(cell) if added else {}
    for field in added:
        value = pa.scalar(shared.get(field.name), field.type)
        table = table.append_column(field, pa.repeat(value, table.num_rows))
    if table.schema.remove_metadata() != CELL:
        raise DamagedFile(f"{name} does not have the columns of a cell")
    return CellTable(cell=cell, table=table, left_out=left_out, neurons=neurons, versions=versions)
