"""Imports neuron sets that clients send, and identifies neuron sets on the engines in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import AmpsweepError, EngineFailed, Unavailable
from ampsweep.folders.model import read_model_folder
from engine.neurons.formats.neuron_json import from_json, to_json
from engine.neurons.neuron_set import NeuronSet
from jobs.execution import IdentificationStatus
from jobs.neuron_sets.identifications import HEARTBEAT_SECONDS, Identifications
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from worker.pool.pool import Pool

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 2.0
"""Interval in seconds at which the engines are asked how far the identifications are, and whether they have started."""

MAX_IDENTIFICATIONS = 16
"""How many identifications one server runs at the same time."""


class PoolNeuronSetService:
    """Imports and identifies neuron sets with a pool of engines.

    The status of an identification is stored in `identifications`, where all servers that share the storage read it,
    also after this server has ended.
    """

    def __init__(
        self, pool: Pool, *, catalog: Catalog, neuron_sets: NeuronSets, identifications: Identifications
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._sets = neuron_sets
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._identifications = identifications
        self._progress: dict[str, RecordingProgress] = {}
        self._models: dict[str, str] = {}

    def import_set(self, model: str, neurons: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
        """Publish a set of neurons, {language: {layer: [index, ...]}}; return its id, a hash of the content."""
        neuron_set = from_json(neurons, model=read_model_folder(self._catalog.model_path(model), name=model))
        self._sets.publish(neuron_set.id, neuron_set.save)
        return neuron_set.id

    def neurons(self, neuron_set_id: str) -> Mapping[str, Mapping[str, Sequence[int]]]:
        """Return the neurons of a set, {language: {layer: [index, ...]}}; raise NotFound if it does not exist."""
        self._sets.get(neuron_set_id)
        return to_json(NeuronSet.load(self._sets.fetch(neuron_set_id)))

    async def identify(self, model: str, ref: NeuronsRef) -> None:
        """Start identifying a set in the background, unless this or another server does so already.

        While the engines of the model are starting, the identification waits for one.

        Raises:
            Unavailable: Too many identifications are running.
        """
        status = await asyncio.to_thread(self.identification_status, ref.id)
        if ref.id in self._tasks or (status is not None and status.error is None):
            return
        if len(self._tasks) >= MAX_IDENTIFICATIONS:
            raise Unavailable(
                f"{MAX_IDENTIFICATIONS} neuron sets are being identified; retry when one of them is finished"
            )
        recorded = asyncio.Event()
        self._models[ref.id] = model
        self._tasks[ref.id] = asyncio.create_task(self._identify(model, ref, recorded))
        await recorded.wait()

    def identification_status(self, neuron_set_id: str) -> IdentificationStatus | None:
        """Return the status of a running or failed identification on any server; None if there is none."""
        if neuron_set_id in self._tasks:
            progress = self._progress.get(neuron_set_id)
            return IdentificationStatus(error=None, progress=progress, model=self._models.get(neuron_set_id))
        return self._identifications.get(neuron_set_id)

    async def unfinished(self, model: str | None) -> Mapping[str, IdentificationStatus]:
        """Return the identifications in progress and the failed ones, by the set's id; with `model`, only its own."""
        stored = await asyncio.to_thread(self._identifications.all)
        statuses = {each: status for each, status in stored.items() if model in (None, status.model)}
        for name in self._catalog.models if model is None else (model,):
            recordings = await self._pool.recordings(name)  # also those that cells wait for
            statuses |= {
                each: IdentificationStatus(error=None, progress=progress, model=name)
                for each, progress in recordings.items()
            }
        return statuses

    async def stop(self) -> None:
        """Cancel all running identifications."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _identify(self, model: str, ref: NeuronsRef, recorded: asyncio.Event) -> None:
        try:
            await self._record(self._identifications.heartbeat, ref.id, None, model)
            recorded.set()
            heartbeats = asyncio.create_task(self._send_heartbeats(model, ref.id))
            try:
                await self._wait_for_engine(model)
                await self._pool.find_neurons(model, ref)
            finally:
                heartbeats.cancel()
                await asyncio.gather(heartbeats, return_exceptions=True)
            await self._record(self._identifications.forget, ref.id)
        except asyncio.CancelledError:
            await self._record(
                self._identifications.fail,
                ref.id,
                EngineFailed("the server was stopped during the identification; request it again"),
                model,
            )
            raise
        except AmpsweepError as error:
            await self._record(self._identifications.fail, ref.id, error, model)
        except Exception:
            log.exception("unhandled exception while identifying neuron set %s", ref.id)
            failed = EngineFailed("the identification failed; see the server's log for the reason")
            await self._record(self._identifications.fail, ref.id, failed, model)
        finally:
            recorded.set()
            del self._tasks[ref.id], self._models[ref.id]
            self._progress.pop(ref.id, None)

    async def _wait_for_engine(self, model: str) -> None:
        """Wait while no engine of a model is ready and one is starting."""
        while True:
            states = {engine["state"] for engine in self._pool.engines() if engine["model"] == model}
            if "ready" in states or "starting" not in states:
                return
            await asyncio.sleep(PROGRESS_SECONDS)

    async def _send_heartbeats(self, model: str, neuron_set_id: str) -> None:
        due = monotonic() + HEARTBEAT_SECONDS
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            recordings = await self._pool.recordings()  # also of the cells that wait for other sets
            if neuron_set_id in recordings:
                self._progress[neuron_set_id] = recordings[neuron_set_id]
            if monotonic() >= due:
                due = monotonic() + HEARTBEAT_SECONDS
                progress = self._progress.get(neuron_set_id)
                await self._record(self._identifications.heartbeat, neuron_set_id, progress, model)

    async def _record(self, write: Callable[..., None], *arguments: object) -> None:
        """Write the status in a thread. The identification continues if the storage cannot be written."""
        try:
            await asyncio.to_thread(write, *arguments)
        except (OSError, AmpsweepError) as error:
            log.warning("the status of an identification could not be stored: %s", error)
