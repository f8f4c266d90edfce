"""Gives a Parquet file the metadata that are known only when its last row is written."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_TAIL = 8
"""A file ends with the length of its footer, in 4 bytes (little-endian), and `PAR1`."""


def replace_footer(path: Path, schema: pa.Schema) -> None:
    """Write a file's footer anew, for a schema that differs from the file's in its metadata alone.

    The file is, byte for byte, the one that a writer opened with `schema` would have written.
    """
    footer = io.BytesIO()
    pq.write_metadata(schema, footer, metadata_collector=[pq.read_metadata(path)])
    with path.open("r+b") as file:
        file.seek(-_TAIL, os.SEEK_END)
        file.seek(-_TAIL - _length(file.read(_TAIL)), os.SEEK_END)
        file.truncate()
        content = footer.getvalue()
        file.write(content[-_TAIL - _length(content) :])


def _length(content: bytes) -> int:
    return int.from_bytes(content[-_TAIL:][:4], "little")
