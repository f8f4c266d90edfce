"""Wires store, results, neuron sets and dispatcher together around a home folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.files import not_utf8
from engine.neurons.neuron_set import NeuronSet
from jobs.batches.files import BATCHES, BatchFiles
from jobs.batches.retention import clean_up_batches
from jobs.batches.rows import RowAnswers
from jobs.clock import SystemClock
from jobs.execution import Completions
from jobs.neuron_sets.bucket import neuron_sets_at
from jobs.neuron_sets.identifications import IDENTIFYING, Identifications
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.estimate import Estimator
from jobs.presets import PRESETS, Presets
from jobs.results.finalization.assembly import Assemble
from jobs.results.finalization.finalization import finalize
from jobs.results.retention import clean_up
from jobs.results.writer import Results
from jobs.storage.factory import is_object_store, join, open_storage
from jobs.store.sql.database import DATABASE_FILE
from jobs.store.sql.store import SqlStore
from worker.batches.service import LeasedBatchService
from worker.dispatcher import Dispatcher
from worker.evaluation.service import LeasedEvaluationService
from worker.pool.engine_session import WorkerConfig
from worker.pool.pool import Pool

UNFINISHED_SECONDS = 3600.0
"""Seconds without a write after which an unfinished file counts as abandoned, if other processes may be writing."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The components that `serve` and `run` share. The store is open until `close`."""

    catalog: Catalog
    store: SqlStore
    results: Results
    neuron_sets: NeuronSets
    presets: Presets
    identifications: Identifications
    batch_files: BatchFiles
    worker_config: WorkerConfig
    keep_days: float | None = None
    keep_events_days: float | None = None

    @classmethod
    def open(
        cls,
        home: Path,
        catalog: Catalog,
        *,
        results: str | None = None,
        database_url: str | None = None,
        keep_days: float | None = None,
        keep_events_days: float | None = None,
        param: str = "home",
    ) -> Runtime:
        """Open the store, the results and the neuron sets; delete files that a crash left behind.

        Args:
            home: The home folder; it is created if it does not exist.
            catalog: The models, corpora and data on offer.
            results: Where results and neuron sets are stored: a folder, or a prefix in an object store; by default
                the home folder.
            database_url: The URL of the database; by default a file in the home folder.
            keep_days: Days after a sweep's end until its results are deleted; None keeps them.
            keep_events_days: Days after a sweep's end until the events of its cells are deleted; None keeps them.
            param: The option that named the home folder, for errors.

        Raises:
            InvalidRequest: The home folder cannot be created, or its path is not UTF-8.
            Unavailable: Another process uses the home folder.
        """
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequest(f"cannot create the folder {home}: {error.strerror}", param=param) from error
        home = home.resolve()
        try:
            str(home).encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(not_utf8(str(home)), param=param) from error
        published = str(home / "results") if results is None else _resolved(results)
        neurons = str(home / "neurons") if results is None else join(published, "neurons")
        storage = open_storage(published)
        storage.check()
        worker_config = WorkerConfig(catalog=catalog, neurons=neurons, results=published)
        database_url = database_url or f"sqlite:///{home / DATABASE_FILE}"
        with ExitStack() as opened:
            runtime = cls(
                catalog=catalog,
                store=opened.enter_context(closing(SqlStore(database_url, SystemClock()))),
                results=Results(storage),
                neuron_sets=neuron_sets_at(neurons),
                presets=Presets(open_storage(neurons, PRESETS)),
                identifications=Identifications(open_storage(neurons, IDENTIFYING), SystemClock()),
                batch_files=BatchFiles(open_storage(published, BATCHES)),
                worker_config=worker_config,
                keep_days=keep_days,
                keep_events_days=keep_events_days,
            )
            runtime.clean_up(starting=True)
            opened.pop_all()  # no step failed: keep the store open
        return runtime

    def add_neurons(self, neuron_set: NeuronSet) -> None:
        """Store a neuron set, so that specs can name it by id."""
        self.neuron_sets.publish(neuron_set.id, neuron_set.save)

    @property
    def owner(self) -> str:
        """The name under which this process leases cells and sweeps."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def dispatcher(self, pool: Pool, on_change: Callable[[], None], assemble: Assemble) -> Dispatcher:
        """Return a dispatcher that runs the store's cells on a pool; `assemble` combines the results of a sweep."""
        return Dispatcher(
            store=self.store,
            pool=pool,
            finalize=lambda lease: finalize(self.store, lease, assemble),
            owner=self.owner,
            on_change=on_change,
            check_writable=self.results.check_writable,
            clean_up=self.clean_up,
        )

    def evaluation_service(self, completions: Completions) -> LeasedEvaluationService:
        """Return a service that computes the store's evaluations; `completions` generates the replies of judges."""
        return LeasedEvaluationService(
            completions,
            catalog=self.catalog,
            store=self.store,
            results=self.results,
            evaluations=self.store.evaluations,
            ratings=self.store.ratings,
            owner=self.owner,
        )

    def batch_service(self, answers: RowAnswers) -> LeasedBatchService:
        """Return a service that runs the store's batches; `answers` reads and answers their requests."""
        return LeasedBatchService(
            answers, batches=self.store.batches, files=self.batch_files, clock=SystemClock(), owner=self.owner
        )

    def estimator(self, memory: Callable[[str], int | None]) -> Estimator:
        """Return what estimates sweeps; `memory` returns the bytes that an engine of a model needs."""
        return Estimator(self.catalog, self.neuron_sets, history=self.store.history, memory=memory)

    def clean_up(self, *, starting: bool = False) -> None:
        """Delete what no sweep needs. While `starting`, the sole owner of a store has no writers."""
        min_age = 0.0 if starting and self.store.sole_owner else UNFINISHED_SECONDS
        clean_up(
            self.store,
            self.results,
            evaluations=self.store.evaluations,
            unfinished_after=min_age,
            ended_before=_days_ago(self.keep_days),
            events_before=_days_ago(self.keep_events_days),
        )
        clean_up_batches(
            self.store.batches,
            self.batch_files,
            now=SystemClock().now(),
            unfinished_after=min_age,
            created_before=_days_ago(self.keep_days),
        )

    def close(self) -> None:
        """Close the store."""
        self.store.close()


def _days_ago(days: float | None) -> float | None:
    return None if days is None else SystemClock().now() - days * 86_400


def _resolved(results: str) -> str:
    return results if is_object_store(results) else str(Path(results).resolve())
