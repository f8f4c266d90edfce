"""What `make demo ARGS=--chaos` does: the engine's process is killed in the midst of a sweep, and the sweep is watched.

Nothing is told in advance: the process gets SIGKILL, and what follows is what the server's events say.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ampsweep import Client
from ampsweep.cli.terminal.progress import Counter
from ampsweep.client.models import Sweep

KILL_AT = 0.4
"""The share of the sweep's cells that are done when the engine is killed."""

Row = dict[str, Any]


def follow_and_kill(client: Client, sweep: Sweep, server: int) -> Sweep:
    """Follow a sweep to its end and kill the engine of the server with this process id on the way; say what happens."""
    total, killed, lost, again = sweep.request_counts.total, 0.0, set[str](), set[str]()
    with Counter(sweep.name or sweep.id) as counter:
        for event in client.events(sweep.id):
            done = event.data["request_counts"]["completed"]
            counter.show(done, total, f"cells, {event.data['status']}")
            if event.type == "cell.retrying":
                lost.add(event.data["cell_id"])
            if event.type != "cell.completed":
                continue
            if not killed and done >= KILL_AT * total:
                (engine,) = engines(server)
                os.kill(engine, signal.SIGKILL)
                killed = time.monotonic()
                _say(f"killed the engine (SIGKILL to process {engine}) after {done} of {total} cells")
            elif killed and event.data["cell_id"] in lost - again:
                if not again:
                    (engine,) = engines(server)
                    waited = time.monotonic() - killed
                    _say(f"{len(lost)} cells were lost with it, and leased again; the new engine is process {engine}")
                    _say(f"the first of them was completed {waited:.1f} s after the kill")
                again.add(event.data["cell_id"])
    if not lost or again != lost:
        raise RuntimeError(f"{len(lost)} cells were lost with the engine, {len(again)} of them were completed")
    ended = client.sweep(sweep.id)
    counts = ended.request_counts
    _say(f"the sweep is {ended.status}: {counts.completed} of {total} cells, {counts.failed} failed")
    return ended


def engines(server: int) -> list[int]:
    """Return the processes below a server in which Ray runs an engine."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(folder.name))
    found, pending = [], [server]
    while pending:
        pid = pending.pop()
        pending += parents.get(pid, [])
        with suppress(OSError):
            if b"RayEngineActor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def compare(killed: list[Row], clean: list[Row]) -> None:
    """Say whether a sweep's summary is that of the same sweep without a kill; RuntimeError where it is not."""
    names = ("task", "metric", "data_language", "target_language", "selection", "factor")

    def by_cell(rows: list[Row]) -> dict[tuple[Any, ...], float]:
        return {tuple(row[name] for name in names): row["value"] for row in rows}

    ours, theirs = by_cell(killed), by_cell(clean)
    others = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    if others:
        raise RuntimeError(f"{len(others)} of {len(theirs)} figures are others than without a kill: {others[:3]}")
    print(f"\nthe same sweep without a kill, on a server of its own: all {len(ours)} figures are the same")


def _say(text: str) -> None:
    print(f"  {text}", flush=True)
