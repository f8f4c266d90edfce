"""A sweep's files as tables that SQL can ask.

`samples`, `summary` and `neurons` are the files; `resources` has the resource class of languages, `student` the
quantiles for intervals of means (`jobs.report.comparisons`). On them stand the views of `jobs.report.views`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.errors import DamagedFile, InvalidRequest, NotFound
from jobs.report.comparisons import student_quantiles
from jobs.report.resources import resource_classes
from jobs.report.views import VIEWS
from jobs.results import metadata_keys as keys

NEURONS = pa.schema([("language", pa.string()), ("layer", pa.int32()), ("neuron", pa.int32())])
"""`neurons.parquet`: a row a language and neuron of the sweep's neuron set."""
_FILES = ("results.parquet", "summary.parquet")
_PARTIAL_FILES = ("partial-results.parquet", "partial-summary.parquet")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the numbers come from: the sweep's spec, the versions that computed it, the files' SHA-256.

    `version` is that of Ampsweep when it put the files together; `versions` are those that computed the cells.
    `sources` are the models, engines, neuron sets and data, as `jobs.results.assembly` tells of them; `warnings` are
    the plan's. `partial` counts the cells of partial results, as `jobs.results.partial` does; None where the results
    are whole.
    """

    sweep_id: str
    spec: dict[str, Any]
    version: str
    versions: list[dict[str, str]]
    failed_cells: dict[str, str]
    sources: dict[str, list[Any]]
    files: dict[str, str]
    warnings: tuple[str, ...] = ()
    partial: dict[str, Any] | None = None


class ReportData:
    """The files of one folder: `results.parquet`, `summary.parquet` and, where it is there, `neurons.parquet`.

    With `partial` they are `partial-results.parquet` and `partial-summary.parquet`, which a stopped run leaves; the
    whole ones where there are none.
    """

    def __init__(self, folder: Path, *, low_resource: Collection[str] | None = None, partial: bool = False) -> None:
        """Open them; NotFound where one is missing, DamagedFile where one is not what a sweep leaves."""
        stopped = any((folder / name).is_file() for name in _PARTIAL_FILES)
        names = _PARTIAL_FILES if partial and stopped else _FILES
        for name in names:
            if not (folder / name).is_file():
                if stopped:
                    remedy = (
                        "its run was stopped: finish it with the same command, or read what there is with --partial"
                    )
                else:
                    remedy = "is it the folder of a finished sweep?"
                raise NotFound(f"{folder} has no {name}; {remedy}", param="sweep")
        neurons = folder / "neurons.parquet"
        self.has_neurons = neurons.is_file()
        paths = [folder / name for name in names] + ([neurons] if self.has_neurons else [])
        self.provenance = _provenance(paths)
        self._connection = duckdb.connect()
        self._connection.register("samples", _table(paths[0]))
        self._connection.register("summary", _table(paths[1]))
        self._connection.register("neurons", _table(neurons) if self.has_neurons else NEURONS.empty_table())
        self._connection.register("resources", resource_classes(low_resource))
        self._connection.register("student", student_quantiles())
        for view in VIEWS:
            self._connection.execute(view)

    def ask(self, sql: str) -> pa.Table:
        """Return the answer to a query."""
        return self._connection.sql(sql).to_arrow_table()

    def close(self) -> None:
        """Let go of the tables."""
        self._connection.close()


def _table(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    except (OSError, pa.ArrowException) as error:
        raise DamagedFile(f"{path.name} cannot be read: {error}") from error


def _provenance(paths: list[Path]) -> Provenance:
    schema = _table(paths[0]).schema
    try:
        values = keys.read_metadata(schema)
        return Provenance(
            sweep_id=values[keys.SWEEP_ID],
            spec=json.loads(values[keys.SPEC]),
            version=values[keys.VERSION],
            versions=json.loads(values[keys.VERSIONS]),
            failed_cells=json.loads(values[keys.FAILED_CELLS]),
            sources=json.loads(values[keys.SOURCES]),
            warnings=tuple(json.loads(values.get(keys.WARNINGS, "[]"))),
            partial=json.loads(values.get(keys.PARTIAL, "null")),
            files={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
        )
    except (KeyError, ValueError) as error:
        message = f"{paths[0].name} has no metadata of a sweep, or of an older version of Ampsweep ({error} is missing)"
        raise InvalidRequest(f"{message}; run the sweep again", param="sweep") from error
