"""Checks, before an evaluation is queued, that a sweep has a text that it can evaluate.

Stops at the first such text, and skips the parts of the file that have none by their statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampsweep.domain.languages.codes import is_usual_code
from ampsweep.errors import InvalidRequest
from jobs.evaluation.request import EvaluationRequest
from jobs.evaluation.texts import RESULTS, Columns, columns_of
from jobs.storage.protocol import StoredFile

_ROWS = 1024
"""Rows that are read at once; the first rows of a sweep are unsteered, and mostly have no wanted language."""


def require_texts(samples: StoredFile, request: EvaluationRequest, *, needs: frozenset[str]) -> None:
    """Check that the samples of a sweep have the columns of a request, and a text in a single wanted language.

    Args:
        samples: The samples.
        request: What to compute.
        needs: What the metrics need beside a text (`jobs.evaluation.metric.TextMetric`).

    Raises:
        InvalidRequest: A column does not exist (param "language" or "by"), no task of the sweep generated a text (param
            "sweep_id"), or no text has a single wanted language and what the metrics need (param "language").
        NotFound: The samples do not exist any more.
    """
    with closing(samples.open()) as source, pq.ParquetFile(source) as file:
        names = file.schema_arrow.names
        _check_columns(request, names)
        columns = columns_of([Path(RESULTS)], names, language=request.language, by=request.by or (), needs=needs)
        if any(map(_has_one, _batches(file, columns, names))):
            return
        if not any(batch.num_rows > batch.column(0).null_count for batch in _read(file, [columns.text])):
            message = "the sweep has no texts: its tasks score given texts, or failed"
            remedy = "evaluate a sweep with a task that generates answers, such as generation, clas or flores"
            raise InvalidRequest(f"{message}; {remedy}", param="sweep_id")
    lacking = "".join(f" and {name}" for name in sorted(needs))
    message = f"no text of the sweep has a single wanted language{lacking} (column {columns.language})"
    raise InvalidRequest(f"{message}; choose data_language, or the code of one language", param="language")


def _check_columns(request: EvaluationRequest, names: list[str]) -> None:
    present = f"the samples have: {', '.join(names)}"
    if request.language not in names and not is_usual_code(request.language):
        message = f"{request.language} is neither a column nor the code of a language such as fr or pt-BR"
        raise InvalidRequest(f"{message}; {present}", param="language")
    for name in request.by or ():
        if name not in (*names, request.language):
            raise InvalidRequest(f"the samples have no column {name}; {present}", param="by")


def _batches(file: pq.ParquetFile, columns: Columns, names: list[str]) -> Iterator[Mapping[str, pa.Array]]:
    """Yield the needed columns of some rows at a time, by what they hold; a language for all texts has no column."""
    language = columns.language if columns.language in names else None
    read = {"text": columns.text, "language": language, "input": columns.input, "reference": columns.reference}
    needed = {what: name for what, name in read.items() if name is not None}
    for batch in _read(file, list(needed.values())):
        yield {what: batch.column(name) for what, name in needed.items()}


def _read(file: pq.ParquetFile, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield columns of some rows at a time, without the parts of the file where one of them is null throughout."""
    groups = [group for group in range(file.num_row_groups) if not _lacks(file.metadata.row_group(group), names)]
    if groups:
        yield from file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=names)


def _lacks(group: pq.RowGroupMetaData, names: list[str]) -> bool:
    columns = (group.column(index) for index in range(group.num_columns))
    statistics = (column.statistics for column in columns if column.path_in_schema in names)
    return any(each is not None and each.has_null_count and each.null_count == group.num_rows for each in statistics)


def _has_one(columns: Mapping[str, pa.Array]) -> bool:
    """Whether a row has all values, and its language is a single one; of several, "+" joins the codes."""
    complete = pa.array([True] * len(columns["text"]))
    for what, values in columns.items():
        complete = pc.and_(complete, pc.is_valid(values))
        if what == "language":
            single = pc.match_substring_regex(values, "^[^+]+$")
            complete = pc.and_(complete, pc.fill_null(single, False))
    return bool(pc.any(complete).as_py())
