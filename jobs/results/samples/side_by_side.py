"""The samples of a few items side by side: those of the unsteered model, and those under each intervention."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.json_text import finite
from ampsweep.missing_path import no_file
from jobs.results.samples.pages import NONE, SHOWN, SampleFilter

_TABLE = ("task", "task_options", "mode", "data_language")
_TEXTS = ("input", "completion", "error", "steered_spans")
_MANY = 20
"""Values that an error lists at most."""

Row = Mapping[str, Any]


def read_items(path: Path, where: Mapping[str, str], *, items: int) -> list[list[Row]]:
    """Return the samples of the first items of each task and data language.

    The rows of an item are its unsteered samples and, in the order of the file, those that match. The rungs of a search
    before its last one are left out, unless `where` names one.

    Args:
        path: The samples of a sweep (`jobs.results.schema.SAMPLES`).
        where: Values by column; `none` matches null. Without `method`, all samples of interventions match.
        items: Maximum number of items of each task and data language.

    Raises:
        UnknownName: There is no such column.
        InvalidRequest: The file cannot be read, a value is not one of the column's type, or no sample matches.
    """
    schema = _schema(path)
    columns = [name for name in SHOWN if name in schema.names]  # earlier versions wrote fewer
    wanted = _filter({"rung": NONE, **where} if "rung" in columns else where, schema)
    keys = pq.read_table(path, columns=[name for name in columns if name in {*_TABLE, "doc_id", *wanted.columns}])
    chosen = _first_items(keys.filter(wanted.mask(keys)), items)
    if not chosen:
        raise InvalidRequest(_no_match(keys, where), param="where")
    documents = sorted({doc_id for doc_ids in chosen.values() for doc_id in doc_ids})
    rows = pq.read_table(path, columns=columns, filters=[("doc_id", "in", documents)])
    matches = wanted.mask(rows).to_pylist()
    grouped: dict[tuple[Any, ...], list[tuple[Row, bool]]] = defaultdict(list)
    for row, is_match in zip(rows.to_pylist(), matches, strict=True):
        table = _table(row)
        if row["doc_id"] in chosen.get(table, ()) and (is_match or _is_baseline(row)):
            grouped[*table, row["doc_id"]].append(({**dict.fromkeys(SHOWN), **finite(row)}, is_match))
    return [_ordered(grouped[*table, doc_id]) for table, doc_ids in chosen.items() for doc_id in doc_ids]


def read_draws(path: Path) -> dict[int, int]:
    """Return the numbers of the draws of random neurons, from 1 in the order of the file, by their seeds.

    Args:
        path: The samples of a sweep, as for `read_items`.

    Returns:
        The numbers; empty if there is no draw, or a single one.
    """
    if "random_seed" not in pq.read_schema(path).names:  # of an earlier version
        return {}
    seeds = pc.unique(pq.read_table(path, columns=["random_seed"])["random_seed"].drop_null()).to_pylist()
    return {seed: number for number, seed in enumerate(seeds, start=1)} if len(seeds) > 1 else {}


def _schema(path: Path) -> pa.Schema:
    if not path.is_file():
        remedy = "give the folder that `ampsweep run --out` wrote to, a file of samples, or the id of a sweep"
        raise InvalidRequest(f"{no_file(path)}; {remedy}", param="sweep")
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidRequest(f"{path.name} cannot be read as Parquet: {error}", param="sweep") from error
    if missing := {"task", "method", "doc_id"} - set(schema.names):
        message = f"{path.name} has no samples of a sweep: it has no column {min(missing)}"
        raise InvalidRequest(message, param="sweep")
    return schema


def _filter(where: Mapping[str, str], schema: pa.Schema) -> SampleFilter:
    columns = [name for name in SHOWN if name in schema.names and name not in _TEXTS]
    equal: dict[str, str | float] = {}
    correct = None
    for name, value in where.items():
        if name not in columns:
            raise UnknownName("column", name, columns, param="where")
        kind = schema.field(name).type
        if pa.types.is_boolean(kind):
            if value not in ("true", "false"):
                raise InvalidRequest(f"{name} is true or false; got {value!r}", param="where")
            correct = value == "true"
        else:
            equal[name] = value if value == NONE or pa.types.is_string(kind) else _number(name, value)
    return SampleFilter(equal=equal, correct=correct)


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise InvalidRequest(f"{name} is a number; got {value!r}", param="where") from None
    return int(number) if number.is_integer() else number


def _first_items(rows: pa.Table, items: int) -> dict[tuple[Any, ...], list[str]]:
    """Return the first documents of each task and data language, in the order of the file."""
    chosen: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    columns = [name for name in (*_TABLE, "doc_id") if name in rows.column_names]
    for row in rows.group_by(columns, use_threads=False).aggregate([]).to_pylist():
        documents = chosen[_table(row)]
        if len(documents) < items:
            documents.append(row["doc_id"])
    return chosen


def _table(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _TABLE)


def _is_baseline(row: Row) -> bool:
    return row["method"] is None and row.get("rung") is None


def _ordered(rows: Sequence[tuple[Row, bool]]) -> list[Row]:
    """Return the unsteered samples of the target languages that match, and then the others."""
    targets = {row["target_language"] for row, is_match in rows if is_match}
    baselines = [row for row, _ in rows if row["method"] is None and row["target_language"] in (None, *targets)]
    return baselines + [row for row, is_match in rows if is_match and row["method"] is not None]


def _no_match(rows: pa.Table, where: Mapping[str, str]) -> str:
    """Return the message that no sample matches, with the values of a column that does not have the one given."""
    for name, value in where.items():
        values = [str(each) for each in pc.unique(rows[name]).to_pylist() if each is not None]
        if value not in (NONE, *values) and not (name == "factor" and float(value) in map(float, values)):
            shown = ", ".join(values[:_MANY]) or "no value"
            return f"no sample has {name} {value}; the sweep has {shown}"
    return "no sample of an intervention matches; `method=none` shows those of the unsteered model"
