"""Neuron sets that a client sends or asks for: imported at once, or identified on the engines in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from ampsweep.domain.neuron_set import NeuronsRef
from ampsweep.errors import AmpsweepError, EngineFailed, Unavailable
from ampsweep.folders.model import read_model_folder
from engine.neurons.neuron_json import from_json, to_json
from engine.neurons.neuron_set import NeuronSet
from jobs.execution import IdentificationStatus
from jobs.neuron_sets.identifications import BEAT, Identifications
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from worker.pool import Pool

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Identifications under way, at most."""


class PoolNeuronSetService:
    """Makes neuron sets with a pool; `stop` gives up what is under way.

    How a search stands, every server with the same `identifications` knows, also after this one has ended.
    """

    def __init__(
        self, pool: Pool, *, catalog: Catalog, neuron_sets: NeuronSets, identifications: Identifications
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._sets = neuron_sets
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._identifications = identifications

    def import_set(self, model: str, neurons: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
        """Publish the set of known neurons and return its id, which is that of its content."""
        found = from_json(neurons, model=read_model_folder(self._catalog.model_path(model), name=model))
        self._sets.publish(found.id, found.save)
        return found.id

    def neurons(self, neuron_set_id: str) -> Mapping[str, Mapping[str, Sequence[int]]]:
        """Return a set's neurons, {language: {layer: [index, ...]}}; NotFound if there is none."""
        self._sets.get(neuron_set_id)
        return to_json(NeuronSet.load(self._sets.fetch(neuron_set_id)))

    async def identify(self, model: str, ref: NeuronsRef) -> None:
        """Begin to find a set, unless it is being found here or by another server; Unavailable where too many are."""
        standing = await asyncio.to_thread(self.identification_status, ref.id)
        if ref.id in self._tasks or (standing is not None and standing.error is None):
            return
        if len(self._tasks) >= AT_ONCE:
            raise Unavailable(f"{AT_ONCE} neuron sets are being identified; ask again when one is found")
        noted = asyncio.Event()
        self._tasks[ref.id] = asyncio.create_task(self._find(model, ref, noted))
        await noted.wait()

    def identification_status(self, neuron_set_id: str) -> IdentificationStatus | None:
        """Return how the search for a set stands, here or at another server; None without one, or where it is found."""
        if neuron_set_id in self._tasks:
            return IdentificationStatus(error=None)
        return self._identifications.get(neuron_set_id)

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _find(self, model: str, ref: NeuronsRef, noted: asyncio.Event) -> None:
        try:
            await self._note(self._identifications.beat, ref.id)
            noted.set()
            beating = asyncio.create_task(self._beat(ref.id))
            try:
                await self._pool.find_neurons(model, ref)
            finally:
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)
            await self._note(self._identifications.forget, ref.id)
        except asyncio.CancelledError:
            await self._note(self._identifications.fail, ref.id, EngineFailed("the server was stopped; ask again"))
            raise
        except AmpsweepError as error:
            await self._note(self._identifications.fail, ref.id, error)
        except Exception:
            log.exception("neuron set %s could not be identified", ref.id)
            failed = EngineFailed("the identification failed; the server's log says why")
            await self._note(self._identifications.fail, ref.id, failed)
        finally:
            noted.set()
            del self._tasks[ref.id]

    async def _beat(self, neuron_set_id: str) -> None:
        while True:
            await asyncio.sleep(BEAT)
            await self._note(self._identifications.beat, neuron_set_id)

    async def _note(self, write: Callable[..., None], *arguments: object) -> None:
        """Write a note in a thread; the search goes on where the storage does not take it."""
        try:
            await asyncio.to_thread(write, *arguments)
        except (OSError, AmpsweepError) as error:
            log.warning("how an identification stands could not be noted: %s", error)
