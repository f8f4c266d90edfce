"""What the routes work with: everything is put in when the application is made, nothing is global."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from api.auth.limits import Limits
from api.http.change_notifier import ChangeNotifier
from jobs.clock import Clock, SystemClock
from jobs.dispatcher_stats import DispatcherStats
from jobs.execution import Completions, EngineMonitor, NeuronSetService
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.results.writer import Results
from jobs.store.protocol import Store


def _nobody() -> None:
    """Wake nobody."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of a server, as the routes see them.

    `notifier` is notified in the event loop whenever a sweep may have a new event. `wake` is called after a sweep was
    created or cancelled, so that the dispatcher need not wait for its next poll. `event_poll` is how many seconds an
    event stream waits for a notification before it reads the store anyway, and `send_timeout` how many it waits for a
    client that does not read. `dispatcher_stats` are the counts of this server's dispatcher.
    """

    store: Store
    results: Results
    catalog: Catalog
    neuron_sets: NeuronSets
    completions: Completions
    neuron_set_service: NeuronSetService
    engine_monitor: EngineMonitor
    notifier: ChangeNotifier
    wake: Callable[[], None] = _nobody
    dispatcher_stats: DispatcherStats = field(default_factory=DispatcherStats)
    clock: Clock = field(default_factory=SystemClock)
    limits: Limits = field(default_factory=Limits)
    event_poll: float = 5.0
    send_timeout: float = 30.0


def _services(request: Request) -> Services:
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(_services)]
