"""Keys of the metadata of Parquet files. All values are text, most of them JSON."""

from __future__ import annotations

import pyarrow as pa

CELL = "ampsweep.cell"
"""A cell's JSON form (`Cell.to_dict`)."""
EPOCH = "ampsweep.epoch"
"""Epoch of the lease under which a cell was computed."""
LEFT_OUT = "ampsweep.left_out"
"""Number of items that the cell's task left out."""
NEURONS = "ampsweep.neurons"
"""Number of neurons that the cell's intervention changed."""
VERSIONS = "ampsweep.versions"
"""Of a cell: the versions of all software that computed it. Of a sweep's samples: the distinct ones of its cells."""

SWEEP_ID = "ampsweep.sweep_id"
SPEC = "ampsweep.spec"
"""A sweep's spec."""
VERSION = "ampsweep.version"
"""Version of Ampsweep that wrote a sweep's file."""
FAILED_CELLS = "ampsweep.failed_cells"
"""The error of each cell without samples, by cell id."""
ERRORS = "ampsweep.errors"
"""The errors of a sweep, as the API reports them (`jobs.results.failures.SweepError`); partial results lack the key."""
SOURCES = "ampsweep.sources"
"""Where models, neurons and data came from (`jobs.results.finalization.assembly.sources_of`)."""
WARNINGS = "ampsweep.warnings"
"""The warnings of a sweep's plan."""
PARTIAL = "ampsweep.partial"
"""How many cells partial results include. Whole results do not have this key."""


def read_metadata(schema: pa.Schema) -> dict[str, str]:
    """Return the metadata of a file's schema as text.

    Raises:
        UnicodeDecodeError: The metadata are not UTF-8.
    """
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
