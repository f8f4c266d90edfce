"""Scores of stored texts in the report: `relevance` and `answer_nll` beside language control."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.errors import DamagedFile, InvalidRequest
from jobs.report.data import ReportData
from jobs.report.questions import QUESTIONS
from jobs.report.sql.queries import DOES_IT_WORK
from jobs.results.schema import SAMPLES
from tests.jobs.report.control_sweep import STEERED, control_summary, write_sweep

METHODS = ("neurons", "prompt_en")


def sweep_with_texts(folder: Path) -> list[dict[str, Any]]:
    """Write a sweep to fr, by neurons and by a prompt, with three texts in each cell; return its samples."""
    write_sweep(folder, [row for row in control_summary(("fr",)) if row["data_language"] != "zh"])
    samples = []
    for method in METHODS:
        factor = 2.0 if "op" in STEERED[method] else None
        columns = {name: value for name, value in STEERED[method].items() if name in SAMPLES.names}
        for doc in ("0", "1", "2"):
            row = {**dict.fromkeys(SAMPLES.names), **columns, "cell_id": f"cell_{method}", "doc_id": doc}
            row |= {"task": "generation", "data_language": "en", "target_language": "fr", "model": "tiny"}
            samples.append({**row, "factor": factor, "completion": "Oui."})
    metadata = pq.read_schema(folder / "results.parquet").metadata
    table = pa.Table.from_pylist(samples, schema=SAMPLES).replace_schema_metadata(metadata)
    pq.write_table(table, folder / "results.parquet")
    return samples


def write_scores(path: Path, samples: list[dict[str, Any]], metric: str, values: dict[str, list[float | None]]) -> Path:
    rows = [
        {
            "cell_id": row["cell_id"],
            "doc_id": row["doc_id"],
            "metric": metric,
            "value": values[row["method"]][number % 3],
        }
        for number, row in enumerate(samples)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def answers(folder: Path, *scores: Path) -> dict[str, tuple[float, str]]:
    """Return the value of the column `quality` of each method, and the metric that it is."""
    with closing(ReportData(folder, scores=scores)) as data:
        return {row["method"]: (row["quality"], row["quality_is"]) for row in data.query(DOES_IT_WORK).to_pylist()}


def test_relevance_takes_the_place_of_repetition(tmp_path: Path) -> None:
    samples = sweep_with_texts(tmp_path)
    assert "repetition" in answers(tmp_path)["neurons"][1]
    nll = write_scores(
        tmp_path / "nll.parquet", samples, "answer_nll", {"neurons": [2.0, 3.0, None], "prompt_en": [1.0, 1.0, 1.0]}
    )
    by_nll = answers(tmp_path, nll)
    assert {method: by_nll[method][0] for method in METHODS} == {"neurons": 2.5, "prompt_en": 1.0}
    assert by_nll["neurons"][1] == "generation: answer_nll (lower is better), n = 2 to 3"
    relevance = write_scores(
        tmp_path / "relevance.parquet", samples, "relevance", {"neurons": [0.5, 1.0, 0.0], "prompt_en": [1.0, 1.0, 1.0]}
    )
    by_both = answers(tmp_path, nll, relevance)
    assert {method: by_both[method][0] for method in METHODS} == {"neurons": 0.5, "prompt_en": 1.0}
    assert by_both["neurons"][1] == "generation: relevance, n = 3"


def test_several_answers_to_an_item_are_averaged_first(tmp_path: Path) -> None:
    samples = sweep_with_texts(tmp_path)
    samples = [{**row, "doc_id": "0" if row["doc_id"] == "1" else row["doc_id"]} for row in samples]
    scores = write_scores(
        tmp_path / "s.parquet", samples, "relevance", {"neurons": [0.0, 1.0, 1.0], "prompt_en": [1.0, 1.0, 1.0]}
    )
    assert answers(tmp_path, scores)["neurons"][0] == pytest.approx((0.5 + 1.0) / 2)


def test_files_without_scores_of_the_sweep_are_refused(tmp_path: Path) -> None:
    samples = sweep_with_texts(tmp_path)
    others = [{**row, "cell_id": "cell_of_another"} for row in samples]
    values: dict[str, list[float | None]] = {method: [1.0, 1.0, 1.0] for method in METHODS}
    foreign = write_scores(tmp_path / "foreign.parquet", others, "relevance", values)
    lfs = write_scores(tmp_path / "lfs.parquet", samples, "lfs", values)
    for path in (foreign, lfs, tmp_path / "summary.parquet"):
        with pytest.raises(InvalidRequest, match="no relevance or answer_nll of this sweep's texts"):
            answers(tmp_path, path)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DamagedFile, match="cannot be read"):
        answers(tmp_path, tmp_path / "broken.parquet")


def test_scores_that_somebody_has_changed_are_refused_and_infinite_ones_count_as_missing(tmp_path: Path) -> None:
    samples = sweep_with_texts(tmp_path)
    values: dict[str, list[float | None]] = {"neurons": [0.5, math.inf, math.nan], "prompt_en": [1.0, 1.0, 1.0]}
    scores = write_scores(tmp_path / "relevance.parquet", samples, "relevance", values)
    assert answers(tmp_path, scores)["neurons"][0] == 0.5
    table = pq.read_table(scores)
    texts = pa.array(["good"] * table.num_rows)
    pq.write_table(table.set_column(table.column_names.index("value"), "value", texts), scores)
    with pytest.raises(
        InvalidRequest, match=r"relevance\.parquet was changed .* `ampsweep evaluate` wrote it"
    ) as refused:
        answers(tmp_path, scores)
    assert refused.value.param == "scores"


def test_the_command_shows_scores_and_names_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.report.answers.QUESTIONS", QUESTIONS[:1])  # the one that shows scores
    samples = sweep_with_texts(tmp_path)
    values: dict[str, list[float | None]] = {method: [1.0, 0.5, 1.0] for method in METHODS}
    scores = write_scores(tmp_path / "relevance.parquet", samples, "relevance", values)
    page = tmp_path / "report.html"
    arguments = ["report", str(tmp_path), "--out", str(page), "--scores"]
    shown = CliRunner().invoke(app, [*arguments, str(scores)])
    assert shown.exit_code == 0, shown.output
    assert "relevance, n = 3" in page.read_text(encoding="utf-8")
    missing = CliRunner().invoke(app, [*arguments, str(tmp_path / "none.parquet")])
    assert missing.exit_code == 2
    assert "there is no file" in missing.stderr
