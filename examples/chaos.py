"""The chaos part of the demo (`make demo ARGS=--chaos`): kills the engine's process in the middle of a sweep.

The process gets SIGKILL without warning. Everything printed afterwards comes from the events of the server.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ampsweep import Client
from ampsweep.cli.terminal.progress import ProgressDisplay
from ampsweep.client.models import Sweep

KILL_AT = 0.4
"""Share of the sweep's cells that are completed when the engine is killed."""

Row = dict[str, Any]


def follow_and_kill(client: Client, sweep: Sweep, server: int) -> Sweep:
    """Follow a sweep to its end, kill the engine on the way, and print what happens.

    Args:
        client: A client of the server.
        sweep: The sweep.
        server: Process id of the server.

    Returns:
        The ended sweep.

    Raises:
        RuntimeError: No cell was lost with the engine, or a lost cell was not completed.
    """
    total, killed, lost, recovered = sweep.request_counts.total, 0.0, set[str](), set[str]()
    with ProgressDisplay(sweep.name or sweep.id, "cells") as display:
        for event in client.events(sweep.id):
            done = event.data["request_counts"]["completed"]
            display.show(done, total, event.data["status"])
            if event.type == "cell.retrying":
                lost.add(event.data["cell_id"])
            if event.type != "cell.completed":
                continue
            if not killed and done >= KILL_AT * total:
                (engine,) = engines(server)
                os.kill(engine, signal.SIGKILL)
                killed = time.monotonic()
                _say(f"killed the engine (SIGKILL to process {engine}) after {done} of {total} cells")
            elif killed and event.data["cell_id"] in lost - recovered:
                if not recovered:
                    (engine,) = engines(server)
                    waited = time.monotonic() - killed
                    _say(f"{len(lost)} cells were lost with it and leased again; the new engine is process {engine}")
                    _say(f"the first of them was completed {waited:.1f} s after the kill")
                recovered.add(event.data["cell_id"])
    if not lost or recovered != lost:
        raise RuntimeError(f"{len(lost)} cells were lost with the engine, {len(recovered)} of them were completed")
    ended = client.sweep(sweep.id)
    counts = ended.request_counts
    _say(f"the sweep is {ended.status}: {counts.completed} of {total} cells, {counts.failed} failed")
    return ended


def engines(server: int) -> list[int]:
    """Return the descendants of a server's process in which Ray runs an engine."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(folder.name))
    engine_pids, pending = [], [server]
    while pending:
        pid = pending.pop()
        pending += parents.get(pid, [])
        with suppress(OSError):
            if b"RayEngineActor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                engine_pids.append(pid)
    return engine_pids


def compare(killed: list[Row], clean: list[Row]) -> None:
    """Check that a sweep has the same summary as the same sweep without a kill; raise RuntimeError if it has not."""
    names = ("task", "metric", "data_language", "target_language", "selection", "factor")

    def by_cell(rows: list[Row]) -> dict[tuple[Any, ...], float]:
        return {tuple(row[name] for name in names): row["value"] for row in rows}

    with_kill, without_kill = by_cell(killed), by_cell(clean)
    keys = with_kill.keys() | without_kill.keys()
    different = [key for key in keys if with_kill.get(key) != without_kill.get(key)]
    if different:
        raise RuntimeError(f"{len(different)} of {len(without_kill)} values differ without a kill: {different[:3]}")
    print(f"\nthe same sweep without a kill, on another server: all {len(with_kill)} values are the same")


def _say(text: str) -> None:
    print(f"  {text}", flush=True)
