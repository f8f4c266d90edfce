from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.evaluation.evaluation import Evaluation, evaluate_texts
from jobs.evaluation.language_metrics import LANGUAGE_METRICS
from jobs.evaluation.score_file import GROUPS, scores_table, write_scores
from jobs.evaluation.texts import StoredText
from jobs.language_control.identifiers import open_identifier

TEXTS = [
    StoredText(text=text, language="fr", group=(factor, None), key={"file": "r.parquet", "row": row, "doc_id": "d"})
    for row, (text, factor) in enumerate([("Le chat dort sur le canapé.", 2.0), ("one two", None)], 1)
]


def evaluation() -> Evaluation:
    identifier = open_identifier("lid.176.ftz")
    metrics = [LANGUAGE_METRICS[name](identifier, None) for name in ("language_confusion", "script")]
    return asyncio.run(evaluate_texts(TEXTS, metrics))


def test_a_row_for_each_text_and_score(tmp_path: Path) -> None:
    scored = evaluation()
    write_scores(scored, ("factor", "selection"), tmp_path / "scores.parquet")
    table = pq.read_table(tmp_path / "scores.parquet", page_checksum_verification=True)
    expected = ["file", "row", "doc_id", "factor", "selection", "language", "metric", "value", "detail", "identity"]
    assert table.schema.names == expected
    rows = [(row["row"], row["factor"], row["metric"], row["value"]) for row in table.to_pylist()]
    assert rows == [
        (1, 2.0, "lpr", 1.0),
        (2, None, "lpr", None),
        (1, 2.0, "wpr", None),
        (2, None, "wpr", None),
        (1, 2.0, "script", 1.0),
        (2, None, "script", 1.0),
    ]
    assert table.schema.field("factor").type == pa.float64()
    assert table.schema.field("selection").type == pa.string()
    assert table["identity"][0].as_py() == open_identifier("lid.176.ftz").identity
    groups = json.loads(table.schema.metadata[GROUPS.encode()])
    assert [(group["factor"], group["n"], group["lpr"]) for group in groups] == [(2.0, 1, 1.0), (None, 1, None)]


def test_a_column_that_scores_have_themselves_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="column 'value' of their own"):
        scores_table(evaluation(), ("factor", "value"))
