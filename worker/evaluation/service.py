"""Leases the evaluations of sweeps, computes their metrics, and reports the outcome under the lease's epoch.

As with cells, only the store decides what is done: an evaluation whose server is killed is taken over by another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from ampsweep.errors import AmpsweepError, InvalidRequest, Unavailable
from ampsweep.folders.model import supports_chat
from jobs.evaluation.language_metrics import LANGUAGE_METRICS
from jobs.evaluation.metric import TextMetric
from jobs.evaluation.rating_store import RatingStore
from jobs.evaluation.records import REPEATABLE, EvaluationLease, EvaluationRecord
from jobs.evaluation.relevance import Relevance
from jobs.evaluation.request import EvaluationRequest, parse_evaluation
from jobs.evaluation.sample_texts import require_texts
from jobs.execution import Completions
from jobs.language_control.identifiers import open_identifier
from jobs.planning.catalog import Catalog
from jobs.results.writer import Results
from jobs.storage.protocol import StoredFile
from jobs.store.protocol import Store
from jobs.store.records import SweepRecord
from jobs.store.sql.evaluations import Evaluations
from worker.evaluation.judge import EngineJudge
from worker.evaluation.sweep_texts import evaluate_sweep
from worker.leased_service import LeasedService, Running

log = logging.getLogger(__name__)

MAX_RUNNING = 2
"""Evaluations that one server computes at the same time."""


class LeasedEvaluationService(LeasedService[EvaluationLease, Running[EvaluationLease]]):
    """Computes evaluations, a few at a time, from `start` to `stop`. Tests call `poll_once` and `heartbeat` directly.

    Args:
        completions: Generates the replies of judges.
        catalog: The models that can be judges.
        store: The sweeps.
        results: The samples that are evaluated, and the files of scores.
        evaluations: The evaluations of all servers on the store.
        ratings: The ratings of judges. An evaluation that is taken over does not ask for those that are stored.
        owner: The name under which this server takes leases.
        ttl: Duration of a lease in seconds. Heartbeats are sent six times in that period.
        poll: Seconds between two requests to the store for work. `submit` causes an immediate one.
    """

    def __init__(
        self,
        completions: Completions,
        *,
        catalog: Catalog,
        store: Store,
        results: Results,
        evaluations: Evaluations,
        ratings: RatingStore,
        owner: str,
        ttl: float = 30.0,
        poll: float = 5.0,
    ) -> None:
        super().__init__("evaluation", evaluations, ttl=ttl, poll=poll)
        self.evaluations = evaluations
        self._completions = completions
        self._catalog = catalog
        self._store = store
        self._results = results
        self._ratings = ratings
        self._owner = owner

    async def submit(self, sweep: SweepRecord, request: EvaluationRequest) -> EvaluationRecord:
        """Queue an evaluation unless it is unfinished or completed; return it.

        Args:
            sweep: A sweep that has ended.
            request: What to compute.

        Raises:
            Conflict: The sweep has no results.
            InvalidRequest: A package that is needed is not installed, the judge cannot be asked in a chat (param
                "judge.model"), or the sweep has no text to evaluate (`jobs.evaluation.sample_texts`).
            UnknownName: The judge is not a model of this server.
            Unavailable: Too many evaluations are unfinished.
        """
        existing = await asyncio.to_thread(self.evaluations.find, sweep, request)
        if existing is not None and existing.state not in REPEATABLE:
            return existing
        metrics = await asyncio.to_thread(self._metrics, request)
        await asyncio.to_thread(self._check_texts, sweep, request, metrics)
        record = await asyncio.to_thread(self.evaluations.submit, sweep, request)
        self._work_available.set()
        return record

    async def poll_once(self) -> None:
        """Lease as many evaluations as this server may still run."""
        while len(self._running) < MAX_RUNNING:
            lease = await asyncio.to_thread(
                self.evaluations.lease, self._owner, models=list(self._catalog.models), ttl=self._ttl
            )
            if lease is None:
                return
            task = asyncio.create_task(self._run(lease, partial(self._compute, lease)))
            self._running[lease.key] = Running(lease=lease, task=task)

    async def heartbeat(self) -> None:
        """Extend the leases of the running evaluations; abort those whose lease is lost."""
        leases = [running.lease for running in self._running.values()]
        if not leases:
            return
        for lease in await asyncio.to_thread(self.evaluations.extend, leases, ttl=self._ttl):
            if running := self._running.get(lease.key):
                log.info("evaluation %s is aborted: its lease was lost, or its sweep has no results", lease.key[0])
                running.task.cancel()

    async def _compute(self, lease: EvaluationLease) -> None:
        request = await asyncio.to_thread(parse_evaluation, lease.evaluation.request)
        metrics = await asyncio.to_thread(self._metrics, request)
        samples = await asyncio.to_thread(self._samples, lease)
        evaluated = await evaluate_sweep(samples, request, metrics)
        await asyncio.to_thread(self._results.scores.publish, lease, evaluated.scores)
        complete = partial(self.evaluations.complete, lease, evaluated.groups, left_out=evaluated.left_out)
        if not await asyncio.to_thread(complete):
            log.warning("evaluation %s: late result discarded (epoch %d)", *lease.key)

    def _samples(self, lease: EvaluationLease) -> StoredFile:
        sweep = self._store.get_sweep(lease.evaluation.sweep_id)
        if sweep.files is None or sweep.files.samples != lease.evaluation.samples:
            raise Unavailable(f"the results of sweep {sweep.id} are being assembled again")
        return self._results.samples_file(sweep)

    def _check_texts(self, sweep: SweepRecord, request: EvaluationRequest, metrics: Sequence[TextMetric]) -> None:
        needs = frozenset[str]().union(*(metric.needs for metric in metrics))
        require_texts(self._results.samples_file(sweep), request, needs=needs)

    def _metrics(self, request: EvaluationRequest) -> list[TextMetric]:
        return [self._metric(name, request) for name in request.metrics]

    def _metric(self, name: str, request: EvaluationRequest) -> TextMetric:
        if name != "relevance":
            return LANGUAGE_METRICS[name](open_identifier(request.identifier), None)
        assert request.judge is not None, "the request was validated"
        model = request.judge.model
        judge = EngineJudge(self._completions, name=model, fingerprint=self._catalog.model(model).fingerprint)
        if self._catalog.engine != "fake" and not supports_chat(self._catalog.models[model]):
            message = f"model {model} has no chat template, so that it cannot be asked for ratings"
            raise InvalidRequest(f"{message}; choose a model that was trained for chats", param="judge.model")
        return Relevance(judge=judge, ratings=self._ratings)

    def _reason(self, error: Exception) -> str | None:
        return error.message if isinstance(error, AmpsweepError) else None
