"""What the routes work with: everything is put in when the application is made, nothing is global."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from api.bell import Bell
from api.limits import Limits
from jobs.catalog import Catalog
from jobs.clock import Clock, SystemClock
from jobs.neuron_sets import NeuronSets
from jobs.ports import Completions, Muscle, NeuronMaker
from jobs.results import Results
from jobs.store.protocol import Store
from jobs.tally import Tally


def _nobody() -> None:
    """Wake nobody."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of a server, as the routes see them.

    `bell` is rung in the event loop whenever a sweep may have a new event. `wake` is called after a sweep was sent or
    cancelled, so that whoever computes need not wait for its next look. `event_poll` is how many seconds an event
    stream waits for the bell before it looks by itself; `send_timeout` how many it waits for a client that does not
    read. `tally` is what this server's dispatcher counts.
    """

    store: Store
    results: Results
    catalog: Catalog
    neuron_sets: NeuronSets
    completions: Completions
    neuron_maker: NeuronMaker
    muscle: Muscle
    bell: Bell
    wake: Callable[[], None] = _nobody
    tally: Tally = field(default_factory=Tally)
    clock: Clock = field(default_factory=SystemClock)
    limits: Limits = field(default_factory=Limits)
    event_poll: float = 5.0
    send_timeout: float = 30.0


def _services(request: Request) -> Services:
    return cast("Services", request.app.state.services)


Served = Annotated[Services, Depends(_services)]
