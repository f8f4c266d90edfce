"""Options, client and output shared by the commands that talk to a server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from ampsweep.cli.options.completion import sweeps
from ampsweep.cli.terminal.progress import ProgressDisplay, show_recording
from ampsweep.client.environment import DEFAULT_URL, URL
from ampsweep.domain.neurons.recording_progress import RecordingProgress

if TYPE_CHECKING:
    from ampsweep.client.clients import Client
    from ampsweep.client.models import Sweep

Server = Annotated[str, typer.Option(envvar=URL, help="The server's URL.", show_default=DEFAULT_URL)]
SweepId = Annotated[str, typer.Argument(help="The sweep's id.", autocompletion=sweeps)]

SHOWN_SECONDS = 0.25
"""Least time between two updates of a sweep's progress, of which it may have thousands that are past."""
ENGINE_SECONDS = 1.0
"""Interval at which a sweep is looked at whose engine is starting."""
RETRIES = 2
"""Fewer than the client's default: a user at a terminal should learn within seconds that there is no server."""


class Counts(Protocol):
    """The numbers of cells of a sweep, as the client and the store give them."""

    @property
    def total(self) -> int:
        """All cells."""
        ...

    @property
    def completed(self) -> int:
        """Those that are computed."""
        ...

    @property
    def failed(self) -> int:
        """Those that have failed."""
        ...


def client_of(server: str, *, patient: bool = False) -> Client:
    """Return the client of a server for a command; a `patient` one waits for a response as long as it takes."""
    from ampsweep.client.clients import TIMEOUT, Client

    if not patient:
        return Client(server, retries=RETRIES)
    import httpx

    return Client(server, retries=RETRIES, timeout=httpx.Timeout(TIMEOUT, read=None))


def line(sweep: Sweep) -> str:
    """Return a one-line description of a sweep."""
    counts = sweep.request_counts
    failed = f", {counts.failed} failed" if counts.failed else ""
    tags = f"  [{', '.join(sweep.tags)}]" if sweep.tags else ""
    error = f"  {sweep.error}" if sweep.error else ""
    cells = f"{counts.completed}/{counts.total} cells{failed}"
    stage = f"  {sweep.stage.text}" if sweep.stage else ""
    return f"{sweep.id}  {sweep.status:<11}  {cells}  {sweep.name}{tags}{stage}{error}"


def follow(client: Client, sweep: Sweep) -> Sweep:
    """Show the progress of a sweep until it has ended, and return its final state."""
    from ampsweep.client.models import RequestCounts

    with ProgressDisplay(sweep.name or sweep.id) as display:
        sweep = _follow_engine(client, client.sweep(sweep.id), display)
        if sweep.stage is not None and sweep.stage.progress is not None:
            show_recording(display, RecordingProgress.from_dict(sweep.stage.progress))
        shown = time.monotonic()
        for event in client.events(sweep.id):
            if time.monotonic() - shown < SHOWN_SECONDS:
                continue
            shown = time.monotonic()
            if event.type == "cell.finding_neurons":
                show_recording(display, RecordingProgress.from_dict(event.data))
                continue
            counts = RequestCounts.model_validate(event.data["request_counts"])
            has_begun = counts.completed or counts.failed or event.type == "cell.progress"
            if has_begun or event.data["status"] != "in_progress":  # otherwise neurons may have to be found first
                show_cells(display, event.data["status"], counts)
        last = client.sweep(sweep.id)
        if last.status == "completed":
            display.stage("writing the results", "cells")
        show_cells(display, last.status, last.request_counts)
    return last


def _follow_engine(client: Client, sweep: Sweep, display: ProgressDisplay) -> Sweep:
    """Show what the engine does that a sweep waits for, and return the sweep once it does not wait for one."""
    while sweep.stage is not None and sweep.stage.name == "waiting_for_engine":
        display.stage(f"waiting for an engine ({sweep.stage.phase})")
        time.sleep(ENGINE_SECONDS)
        sweep = client.sweep(sweep.id)
    return sweep


def show_cells(display: ProgressDisplay, status: str, counts: Counts) -> None:
    """Show the cells of a sweep that have ended, and its status unless that is the usual one."""
    from ampsweep.client.models import ENDED

    if status not in ENDED:
        display.stage("writing the results" if status == "finalizing" else "sweeping", "cells")
    notes = [f"{counts.failed} failed"] if counts.failed else []
    notes += [] if status in ("in_progress", "finalizing") else [status]
    display.show(counts.completed + counts.failed, counts.total, ", ".join(notes))
