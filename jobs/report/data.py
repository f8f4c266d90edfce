"""The files of a sweep as SQL tables, in DuckDB.

`samples`, `summary` and `neurons` are the files. `evaluated` has scores of stored texts, as rows of a summary.
`resources` has the resource class of each language, and `student` the quantiles for intervals of means
(`jobs.report.comparisons`), `combined_p` a function for p-values. `jobs.report.sql.views` defines views over them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from duckdb.func import FunctionNullHandling
from duckdb.sqltypes import DOUBLE

from ampsweep.errors import DamagedFile, InvalidRequest, NotFound
from jobs.report.comparisons import combined_p, student_quantiles
from jobs.report.sources.evaluated import evaluated_rows
from jobs.report.sources.neurons_file import NEURONS
from jobs.report.sources.provenance import Provenance, read_provenance
from jobs.report.sources.resources import resource_classes
from jobs.report.sql.views import VIEWS
from jobs.results import metadata_keys as keys
from jobs.results.schema import SAMPLES, SUMMARY

_FILES = ("results.parquet", "summary.parquet")
_PARTIAL_FILES = ("partial-results.parquet", "partial-summary.parquet")
_VIEW = re.compile(r"\s*CREATE VIEW (\w+) AS")
_WORD = re.compile(r"\w+")


class ReportData:
    """The files of one folder: `results.parquet`, `summary.parquet` and, if it exists, `neurons.parquet`.

    With `partial` these are `partial-results.parquet` and `partial-summary.parquet` of a stopped run, if they exist.
    """

    def __init__(
        self,
        folder: Path,
        *,
        low_resource: Collection[str] | None = None,
        partial: bool = False,
        scores: Sequence[Path] = (),
    ) -> None:
        """Open the files.

        Args:
            folder: The folder of the files.
            low_resource: Codes of the low-resource languages; by default those of `jobs.report.sources.resources`.
            partial: Whether to prefer partial results.
            scores: Files that `ampsweep evaluate --out` wrote about the samples.

        Raises:
            NotFound: if a file is missing.
            DamagedFile: if a file cannot be read.
            InvalidRequest: if a file is not that of a sweep or was changed, or has no scores of its texts.
        """
        stopped = any((folder / name).is_file() for name in _PARTIAL_FILES)
        names = _PARTIAL_FILES if partial and stopped else _FILES
        for name in names:
            if not (folder / name).is_file():
                if stopped:
                    remedy = "its run was stopped; finish it with the same command, or add --partial"
                else:
                    remedy = "give the folder of a finished sweep"
                raise NotFound(f"{folder} has no {name}; {remedy}", param="sweep")
        neurons = folder / "neurons.parquet"
        self.has_neurons = neurons.is_file()
        paths = [folder / name for name in names] + ([neurons] if self.has_neurons else [])
        stored = _table(paths[0])
        self.provenance = _provenance(paths, stored.schema)
        self._connection = duckdb.connect()
        samples = _with_all_columns(stored, SAMPLES, paths[0].name)
        self._connection.register("samples", samples)
        self._connection.register("evaluated", evaluated_rows(samples, scores))
        summary = _with_all_columns(_table(paths[1], ["task", "metric"]), SUMMARY, paths[1].name)
        self._connection.register("summary", _without_infinite_numbers(summary))
        self._connection.register("neurons", self._neurons(neurons))
        self._connection.register("resources", resource_classes(low_resource))
        self._connection.register("student", student_quantiles())
        lists = duckdb.list_type(DOUBLE)
        null = FunctionNullHandling.SPECIAL  # the function handles nulls itself
        self._connection.create_function("combined_p", combined_p, [lists, lists, DOUBLE], DOUBLE, null_handling=null)
        self._views: dict[str, str] = {}
        for statement in VIEWS:
            if view := _VIEW.match(statement):
                self._views[view[1]] = statement
            else:
                self._connection.execute(statement)

    def _neurons(self, path: Path) -> pa.Table:
        required = ["language", "layer", "neuron"]
        if not self.has_neurons:
            return NEURONS.empty_table()
        return _with_all_columns(_table(path, required), NEURONS, path.name)

    def query(self, sql: str) -> pa.Table:
        """Return the result of a query."""
        self._compute_views(sql)
        return self._connection.sql(sql).to_arrow_table()

    def _compute_views(self, sql: str) -> None:
        """Store the views that a query names, and those that they name, as tables, once.

        They are up to seven layers deep. DuckDB would plan all layers in every query, and several times where a layer
        names another twice, which takes many times as long as to compute them.
        """
        for name in set(_WORD.findall(sql)) & self._views.keys():
            if view := self._views.pop(name, None):
                self._compute_views(view)
                self._connection.execute(view.replace("CREATE VIEW", "CREATE TABLE", 1))

    def close(self) -> None:
        """Close the tables."""
        self._connection.close()


def _table(path: Path, required: Sequence[str] = ()) -> pa.Table:
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (OSError, pa.ArrowException) as error:
        message = f"{path.name} cannot be read: {error}"
        raise DamagedFile(f"{message}; copy it again, or run the sweep again") from error
    if missing := [name for name in required if name not in table.column_names]:
        message = f"{path.name} is not a file of a sweep: it lacks the columns {', '.join(missing)}"
        raise InvalidRequest(f"{message}; run the sweep again", param="sweep")
    return table


def _with_all_columns(table: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    """Return the table of a file in the types of a schema, with the columns that files of earlier versions lack.

    These are null, but `method` is as it follows from the factor.

    Raises:
        InvalidRequest: if a column does not have the type that it was written with.
    """
    for position, field in enumerate(table.schema):
        if field.name in schema.names and field.type != schema.field(field.name).type:
            table = table.set_column(position, field.name, _converted(table, field, schema, name))
    for field in schema:
        if field.name not in table.column_names:
            values = pa.nulls(table.num_rows, field.type)
            if field.name == "method":  # every steered cell of these versions changed neurons
                values = pc.if_else(pc.is_valid(table["factor"]), "neurons", values)
            table = table.append_column(field, values)
    return table


def _without_infinite_numbers(table: pa.Table) -> pa.Table:
    """Return the table with null for infinite numbers and NaN, which earlier versions wrote and no figure can show."""
    for position, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            column = table[field.name]
            finite = pc.if_else(pc.is_finite(column), column, pa.scalar(None, field.type))
            table = table.set_column(position, field, finite)
    return table


def _converted(table: pa.Table, field: pa.Field, schema: pa.Schema, name: str) -> pa.ChunkedArray:
    """Return a column in the type of a schema, such as texts that another program stored as a dictionary."""
    wanted = schema.field(field.name).type
    try:
        return table[field.name].cast(wanted)
    except pa.ArrowException as error:
        message = f"{name} was changed after it was written: the column {field.name} is {field.type}, not {wanted}"
        raise InvalidRequest(f"{message}; give the file as Ampsweep wrote it", param="sweep") from error


def _provenance(paths: list[Path], schema: pa.Schema) -> Provenance:
    metadata = _metadata(schema, paths[0])
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    provenance = read_provenance(metadata, name=paths[0].name, files=files)
    _require_same_sweep(provenance.sweep_id, paths)
    return provenance


def _metadata(schema: pa.Schema, path: Path) -> dict[str, str]:
    try:
        return keys.read_metadata(schema)
    except UnicodeDecodeError as error:
        message = f"{path.name} was changed after it was written: its metadata are not UTF-8"
        raise InvalidRequest(f"{message}; give the file as Ampsweep wrote it", param="sweep") from error


def _require_same_sweep(sweep_id: str, paths: list[Path]) -> None:
    """Raise InvalidRequest if samples and summary belong to two sweeps, as in a folder of collected files."""
    samples, summary, *_ = paths
    other = _metadata(_table(summary).schema, summary).get(keys.SWEEP_ID, sweep_id)
    if other != sweep_id:
        message = f"{samples.name} is of sweep {sweep_id}, but {summary.name} of sweep {other}"
        raise InvalidRequest(f"{message}; give a folder with the files of one sweep", param="sweep")
