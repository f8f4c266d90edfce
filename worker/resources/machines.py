"""Adds up the memory of a pool's engines on each machine of a Ray cluster, and rejects an engine that exceeds it.

Ray places engines by CPU cores and GPUs, not by memory, so it may place several engines on a machine that can hold only
some of them. Engines of other servers are not known here.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ampsweep.errors import InvalidRequest, Unavailable
from worker.engines import EngineSpec
from worker.resources.gpus import has_gpu, require_own_gpus
from worker.resources.memory import EngineMemory, gib, remedy, total_memory

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_CGROUPS = Path("/proc/self/ns/cgroup")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine or container.

    Attributes:
        id: The same for all processes of the machine or container, and different on every other one.
        host: Its host name.
        memory: All of its memory in bytes, or the limit of the container.
        has_gpu: Whether vLLM runs on a GPU there.
    """

    id: str
    host: str
    memory: int
    has_gpu: bool


@dataclass(frozen=True, kw_only=True)
class Placement:
    """An engine on a machine, with the memory that it will allocate there."""

    machine: Machine
    engine: EngineMemory


def this_machine() -> Machine:
    """Return the machine or container that this process runs on."""
    host = socket.gethostname()
    try:
        identity = f"{_BOOT.read_text(encoding='ascii').strip()}/{_CGROUPS.stat().st_ino}"
    except OSError:
        identity = host
    return Machine(id=identity, host=host, memory=total_memory(), has_gpu=has_gpu())


def place_here(spec: EngineSpec) -> Placement:
    """Return the placement of one engine of a spec on this machine."""
    return Placement(machine=this_machine(), engine=EngineMemory.of(replace(spec, count=1)))


class Machines:
    """The placements of a pool's engines.

    Attributes:
        all_started: Whether every engine of the pool has been started once. After that, an engine that does not fit was
            moved from another machine, which may come back.
    """

    def __init__(self) -> None:
        self.all_started = False
        self._placements: dict[Hashable, Placement] = {}

    def reserve(self, session: Hashable, placement: Placement) -> None:
        """Add the memory of a session's engine to that of the engines on its machine.

        Raises:
            InvalidRequest: The machine cannot hold all of its engines (param "dtype"), or they would share a GPU (param
                "models").
            Unavailable: The same, once all engines have been started.
        """
        machine = placement.machine
        others = [other.engine for other in self._placements.values() if other.machine.id == machine.id]
        try:
            _require_fit(machine, [*others, placement.engine])
        except InvalidRequest as error:
            if self.all_started:
                raise Unavailable(error.message, param=error.param) from error
            raise
        self._placements[session] = placement

    def release(self, session: Hashable) -> None:
        """Remove a session's engine. Does nothing if it has no reservation."""
        self._placements.pop(session, None)


def _require_fit(machine: Machine, engines: Sequence[EngineMemory]) -> None:
    """Raise InvalidRequest if a machine cannot hold these engines."""
    total = sum(engine.total for engine in engines)
    if total > machine.memory:
        by_model = {engine.spec.model: engine for engine in engines if engine.total}
        counts = Counter(engine.spec.model for engine in engines)
        listed = "; ".join(str(engine.times(counts[model])) for model, engine in by_model.items())
        message = f"not enough memory on {machine.host} for the engines that Ray placed there: {gib(total)} will be"
        message = f"{message} allocated, the machine has {gib(machine.memory)} ({listed})"
        advice = f"{remedy({engine.spec.dtype for engine in by_model.values()})}, or raise `cpus` of these models"
        raise InvalidRequest(f"{message}; {advice}, so that Ray places fewer engines on a machine", param="dtype")
    if machine.has_gpu:
        require_own_gpus([engine.spec for engine in engines], where=f" on {machine.host}")
