"""The services that the routes use. They are passed to the application when it is created; nothing is global."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from api.auth.limits import Limits
from api.http.change_notifier import ChangeNotifier
from api.http.event_stream import EncodedEvent
from api.http.shared_reads import SharedReads
from api.partial_results import PartialWriter
from api.planning import PlanningThreads
from jobs.clock import Clock, SystemClock
from jobs.execution import (
    BatchService,
    CompletionService,
    DispatcherStats,
    EngineMonitor,
    EvaluationService,
    NeuronSetService,
)
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.estimate import Estimator
from jobs.presets import Presets
from jobs.report.served import Reports
from jobs.results.writer import Results
from jobs.store.protocol import Store


async def _no_recording(_sweep_id: str) -> RecordingProgress | None:
    """Know of no identification."""
    return None


def _do_nothing() -> None:
    """Wake no dispatcher and delete no files."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """The services of a server, as the routes use them.

    Attributes:
        store: The sweeps and their cells.
        results: The result files.
        catalog: The models, corpora and tasks that requests can name.
        neuron_sets: The neuron sets in the storage.
        presets: The named interventions in the storage.
        completions: Generates interactive completions, and tokenizes prompts.
        neuron_set_service: Imports and identifies neuron sets.
        evaluation_service: Evaluates the texts of sweeps in the background.
        batch_service: Runs batches in the background.
        engine_monitor: The state of the engines.
        estimator: Estimates what a sweep costs.
        planning: Plans sweeps without occupying the threads of other requests.
        notifier: Notified in the event loop whenever a sweep may have a new event.
        event_reads: The reads of the store that event streams share.
        wake: Called when a sweep was created or its state changed, so that the dispatcher does not wait for its next
            poll.
        clean_up: Called when a sweep was deleted, so that its files are deleted soon.
        recording_of: Returns how far the identification is that cells of a sweep wait for on this server, if any.
        dispatcher_stats: The counts of this server's dispatcher.
        clock: The current time.
        reports: Renders reports.
        partial_writer: Writes the results of sweeps that have not ended.
        limits: The limits of requests.
        event_poll: Seconds that an event stream waits for a notification before it reads the store anyway.
        send_timeout: Seconds that a stream waits for a client that does not read.
    """

    store: Store
    results: Results
    catalog: Catalog
    neuron_sets: NeuronSets
    presets: Presets
    completions: CompletionService
    neuron_set_service: NeuronSetService
    evaluation_service: EvaluationService
    batch_service: BatchService
    engine_monitor: EngineMonitor
    estimator: Estimator
    notifier: ChangeNotifier
    event_reads: SharedReads[tuple[list[EncodedEvent], bool]] = field(default_factory=SharedReads)
    wake: Callable[[], None] = _do_nothing
    clean_up: Callable[[], None] = _do_nothing
    recording_of: Callable[[str], Awaitable[RecordingProgress | None]] = _no_recording
    dispatcher_stats: DispatcherStats = field(default_factory=DispatcherStats)
    clock: Clock = field(default_factory=SystemClock)
    reports: Reports = field(default_factory=Reports)
    partial_writer: PartialWriter = field(default_factory=PartialWriter)
    planning: PlanningThreads = field(default_factory=PlanningThreads)
    limits: Limits = field(default_factory=Limits)
    event_poll: float = 5.0
    send_timeout: float = 30.0


def _services(request: Request) -> Services:
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(_services)]
