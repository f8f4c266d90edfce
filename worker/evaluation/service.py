"""Evaluates the texts of sweeps in the background of a server."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.errors import AmpsweepError, Conflict, EngineFailed, InvalidRequest, Unavailable
from jobs.evaluation.evaluation import Evaluation, evaluate_texts
from jobs.evaluation.language_metrics import LANGUAGE_METRICS
from jobs.evaluation.metric import TextMetric
from jobs.evaluation.rating_store import RatingStore
from jobs.evaluation.records import BEAT, EvaluationRecord, EvaluationRecords
from jobs.evaluation.relevance import Relevance
from jobs.evaluation.request import EvaluationRequest
from jobs.evaluation.score_file import write_scores
from jobs.evaluation.text_files import StoredTexts, column_names, read_stored_texts
from jobs.evaluation.texts import RESULTS, Columns, columns_of
from jobs.execution import Completions
from jobs.language_control.identifiers import open_identifier
from jobs.planning.catalog import Catalog
from jobs.storage.protocol import StoredFile
from jobs.store.records import SweepRecord
from worker.evaluation.judge import EngineJudge

log = logging.getLogger(__name__)

MAX_RUNNING = 2
"""Evaluations that one server runs at the same time; further ones wait."""
MAX_EVALUATIONS = 32
"""Evaluations that one server runs and keeps waiting."""


class BackgroundEvaluationService:
    """Runs evaluations, a few at a time, and records how they end.

    The records are shared by all servers on the storage. Ratings of judges are stored in a file of this server, so an
    evaluation that is started again after an interruption does not ask for them twice.

    Args:
        completions: Generates the replies of judges.
        catalog: The models that can be judges.
        records: The records of evaluations.
        ratings: The file of ratings.
    """

    def __init__(
        self, completions: Completions, *, catalog: Catalog, records: EvaluationRecords, ratings: Path
    ) -> None:
        self.records = records
        self._completions = completions
        self._catalog = catalog
        self._ratings = ratings
        self._slots = asyncio.Semaphore(MAX_RUNNING)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, sweep: SweepRecord, samples: StoredFile, request: EvaluationRequest) -> EvaluationRecord:
        """Start an evaluation in the background unless it is in progress or completed, on any server; return it.

        Args:
            sweep: A sweep that has ended.
            samples: The file of its samples.
            request: What to compute.

        Raises:
            InvalidRequest: A package or a column that is needed does not exist.
            UnknownName: The judge is no model of this server.
            Unavailable: Too many evaluations are running.
        """
        if sweep.files is None:
            raise Conflict(f"sweep {sweep.id} has no results")
        evaluation_id = request.id(sweep.files.samples)
        existing = await asyncio.to_thread(self._existing, sweep.id, evaluation_id)
        if existing is not None and existing.status != "failed":
            return existing
        if len(self._tasks) >= MAX_EVALUATIONS:
            raise Unavailable(f"{MAX_EVALUATIONS} evaluations are in progress; retry when one of them has ended")
        metrics = await asyncio.to_thread(self._metrics, request)
        record = await asyncio.to_thread(self.records.start, evaluation_id, sweep.id, request.to_dict())
        if evaluation_id not in self._tasks:  # another request may have started it meanwhile
            self._tasks[evaluation_id] = asyncio.create_task(self._run(record, samples, request, metrics))
        return record

    async def stop(self) -> None:
        """Cancel the evaluations of this server; they are recorded as failed and can be requested again."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _existing(self, sweep_id: str, evaluation_id: str) -> EvaluationRecord | None:
        with suppress(AmpsweepError):
            return self.records.get(sweep_id, evaluation_id)
        return None

    def _metrics(self, request: EvaluationRequest) -> list[TextMetric]:
        return [self._metric(name, request) for name in request.metrics]

    def _metric(self, name: str, request: EvaluationRequest) -> TextMetric:
        if name != "relevance":
            return LANGUAGE_METRICS[name](open_identifier(request.identifier), None)
        assert request.judge is not None, "the request was validated"
        model = request.judge.model
        judge = EngineJudge(self._completions, name=model, fingerprint=self._catalog.model(model).fingerprint)
        return Relevance(judge=judge, ratings=RatingStore(self._ratings))

    async def _run(
        self, record: EvaluationRecord, samples: StoredFile, request: EvaluationRequest, metrics: list[TextMetric]
    ) -> None:
        try:
            async with self._beating(record), self._slots:
                outcome = await _evaluate(samples, request, metrics)
            await self._record(
                lambda: self.records.complete(record, outcome.scores, outcome.groups, left_out=outcome.left_out)
            )
        except asyncio.CancelledError:
            await self._fail(record, EngineFailed("the server was stopped during the evaluation; send it again"))
            raise
        except AmpsweepError as error:
            await self._fail(record, error)
        except Exception:
            log.exception("unhandled exception in evaluation %s", record.id)
            await self._fail(record, EngineFailed("the evaluation failed; see the server's log for the reason"))
        finally:
            del self._tasks[record.id]

    @asynccontextmanager
    async def _beating(self, record: EvaluationRecord) -> AsyncIterator[None]:
        """Record a heartbeat every `BEAT` seconds. None is written after the block, whose end is recorded next."""
        ended = asyncio.Event()

        async def beat() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT):
                        await ended.wait()
                    return
                await self._record(lambda: self.records.beat(record))

        heartbeats = asyncio.create_task(beat())
        try:
            yield
        finally:
            ended.set()
            await heartbeats

    async def _fail(self, record: EvaluationRecord, error: AmpsweepError) -> None:
        await self._record(lambda: self.records.fail(record, error))

    async def _record(self, write: Callable[[], None]) -> None:
        """Write a record in a thread. If the storage cannot be written, the record expires and counts as failed."""
        try:
            await asyncio.to_thread(write)
        except (OSError, AmpsweepError) as error:
            log.warning("the state of an evaluation could not be stored: %s", error)


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """The file of scores, the values of the groups, and the number of rows left out."""

    scores: bytes
    groups: list[dict[str, Any]]
    left_out: int


async def _evaluate(samples: StoredFile, request: EvaluationRequest, metrics: Sequence[TextMetric]) -> _Outcome:
    """Compute the metrics over a sweep's samples, which are copied to a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="ampsweep-") as folder:
        results = Path(folder) / RESULTS
        await asyncio.to_thread(_copy, samples, results)
        needs = frozenset[str]().union(*(metric.needs for metric in metrics))
        columns, stored = await asyncio.to_thread(_read, results, request, needs)
        evaluation = await evaluate_texts(stored.texts, metrics)
        return await asyncio.to_thread(_outcome, evaluation, columns.by, stored.left_out, results.with_name("scores"))


def _copy(samples: StoredFile, target: Path) -> None:
    with samples.open() as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)


def _read(results: Path, request: EvaluationRequest, needs: frozenset[str]) -> tuple[Columns, StoredTexts]:
    columns = columns_of([results], column_names(results), language=request.language, by=request.by, needs=needs)
    stored = read_stored_texts([results], columns)
    if not stored.texts:
        raise InvalidRequest("the sweep has no text to evaluate in a single wanted language", param="language")
    return columns, stored


def _outcome(evaluation: Evaluation, by: Sequence[str], left_out: int, target: Path) -> _Outcome:
    write_scores(evaluation, by, target)
    groups = [{**dict(zip(by, group, strict=True)), **values} for group, values in evaluation.groups.items()]
    return _Outcome(scores=target.read_bytes(), groups=groups, left_out=left_out)
