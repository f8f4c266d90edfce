"""Computes metrics over the samples of a sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest
from ampsweep.temporary import TemporaryFolder
from jobs.evaluation.evaluation import Evaluation, evaluate_texts
from jobs.evaluation.metric import TextMetric
from jobs.evaluation.request import EvaluationRequest
from jobs.evaluation.score_file import write_scores
from jobs.evaluation.text_files import StoredTexts, column_names, read_stored_texts
from jobs.evaluation.texts import RESULTS, Columns, columns_of
from jobs.storage.protocol import StoredFile


@dataclass(frozen=True, kw_only=True)
class EvaluatedSweep:
    """The file of scores, the values of the groups, and the number of rows left out."""

    scores: bytes
    groups: list[dict[str, Any]]
    left_out: int


async def evaluate_sweep(
    samples: StoredFile, request: EvaluationRequest, metrics: Sequence[TextMetric]
) -> EvaluatedSweep:
    """Compute metrics over a sweep's samples, which are copied to a temporary folder.

    Raises:
        InvalidRequest: A column that is needed does not exist, or no text is in a single wanted language.
        NotFound: The samples do not exist any more.
        OSError: The samples cannot be read, or the disk is full.
        Unavailable: The storage or a judge cannot be reached.
    """
    with TemporaryFolder("evaluation") as folder:
        results = folder / RESULTS
        await asyncio.to_thread(samples.download, results)
        needs = frozenset[str]().union(*(metric.needs for metric in metrics))
        columns, stored = await asyncio.to_thread(_read, results, request, needs)
        evaluation = await evaluate_texts(stored.texts, metrics)
        return await asyncio.to_thread(_outcome, evaluation, columns.by, stored.left_out, results.with_name("scores"))


def _read(results: Path, request: EvaluationRequest, needs: frozenset[str]) -> tuple[Columns, StoredTexts]:
    columns = columns_of([results], column_names(results), language=request.language, by=request.by, needs=needs)
    stored = read_stored_texts([results], columns)
    if not stored.texts:
        raise InvalidRequest("the sweep has no text to evaluate in a single wanted language", param="language")
    return columns, stored


def _outcome(evaluation: Evaluation, by: Sequence[str], left_out: int, target: Path) -> EvaluatedSweep:
    write_scores(evaluation, by, target)
    groups = [{**dict(zip(by, group, strict=True)), **values} for group, values in evaluation.groups.items()]
    return EvaluatedSweep(scores=target.read_bytes(), groups=groups, left_out=left_out)
