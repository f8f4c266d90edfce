"""The scores of single texts as a Parquet file: one row for each text and score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.errors import InvalidRequest
from ampsweep.files import atomic_write
from ampsweep.hashing import canonical_json
from jobs.evaluation.evaluation import Evaluation

GROUPS = "ampsweep.evaluation"
"""Metadata key: the values of each group, as JSON."""
SCORE_COLUMNS = ("language", "metric", "value", "detail", "identity")
_KEY_TYPES = {"row": pa.int64(), "answer": pa.int32()}


def write_scores(evaluation: Evaluation, by: Sequence[str], path: Path) -> None:
    """Write the scores of an evaluation.

    The columns are the key of each text (`file`, `row`, and the ids of a sweep's results), the columns of `by`,
    `language`, the name of the score (`metric`), its `value`, `detail`, and the `identity` of what computed it. The
    metadata have the values by group.

    Args:
        evaluation: The evaluation.
        by: The names of the columns that the texts are grouped by.
        path: The file to write.
    """
    with atomic_write(path) as temporary:
        pq.write_table(scores_table(evaluation, by), temporary, compression="zstd", write_page_checksum=True)


def scores_table(evaluation: Evaluation, by: Sequence[str]) -> pa.Table:
    """Return the scores of an evaluation as a table; see `write_scores`.

    Raises:
        InvalidRequest: A column to group by has values of several types, or the name of a score column.
    """
    key_names = list(dict.fromkeys(name for text in evaluation.texts for name in text.key))
    group_names = [name for name in by if name not in key_names and name != "language"]
    if reserved := sorted(set(group_names) & set(SCORE_COLUMNS)):
        raise InvalidRequest(f"scores have a column {reserved[0]!r} of their own; rename that of the texts", param="by")
    rows = [
        {
            **{name: text.key.get(name) for name in key_names},
            **{name: value for name, value in zip(by, text.group, strict=True) if name in group_names},
            "language": text.language,
            "metric": name,
            "value": column[index].value,
            "detail": column[index].detail,
            "identity": metric.identity,
        }
        for metric, scores in zip(evaluation.metrics, evaluation.scores, strict=True)
        for name, column in scores.items()
        for index, text in enumerate(evaluation.texts)
    ]
    fields = [(name, _KEY_TYPES.get(name, pa.string())) for name in key_names]
    fields += [(name, _type_of(name, [row[name] for row in rows])) for name in group_names]
    fields += [(name, pa.float64() if name == "value" else pa.string()) for name in SCORE_COLUMNS]
    groups = [{**dict(zip(by, group, strict=True)), **values} for group, values in evaluation.groups.items()]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields).with_metadata({GROUPS: canonical_json(groups)}))


def _type_of(name: str, values: Sequence[Any]) -> pa.DataType:
    try:
        kind = pa.array(values).type
    except pa.ArrowException as error:
        raise InvalidRequest(f"the values of column {name!r} have several types: {error}", param="by") from error
    return pa.string() if pa.types.is_null(kind) else kind
