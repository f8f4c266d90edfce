"""Neuron sets that a client sends or asks for: imported at once, or identified on the engines in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from ampsweep.domain.neuron_set import NeuronsRef
from ampsweep.errors import AmpsweepError, EngineFailed, Unavailable
from ampsweep.folders.model import read_model_folder
from engine.neuron_json import from_json, to_json
from engine.neuron_set import NeuronSet
from jobs.catalog import Catalog
from jobs.neuron_sets import NeuronSets
from jobs.ports import Identifying
from worker.pool import Pool

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Identifications under way, at most."""


class NeuronFinder:
    """Makes neuron sets with a pool; `stop` gives up what is under way. What failed is known until it is asked anew."""

    def __init__(self, pool: Pool, *, catalog: Catalog, neuron_sets: NeuronSets) -> None:
        self._pool = pool
        self._catalog = catalog
        self._sets = neuron_sets
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, AmpsweepError] = {}

    def bring_in(self, model: str, neurons: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
        """Publish the set of known neurons and return its id, which is that of its content."""
        found = from_json(neurons, model=read_model_folder(self._catalog.model_path(model), name=model))
        self._sets.publish(found.id, found.save)
        return found.id

    def neurons(self, neuron_set_id: str) -> Mapping[str, Mapping[str, Sequence[int]]]:
        """Return a set's neurons, {language: {layer: [index, ...]}}; NotFound if there is none."""
        self._sets.get(neuron_set_id)
        return to_json(NeuronSet.load(self._sets.fetch(neuron_set_id)))

    def identify(self, model: str, ref: NeuronsRef) -> None:
        """Begin to find a set, unless it is being found; Unavailable where too many are."""
        if ref.id in self._tasks:
            return
        if len(self._tasks) >= AT_ONCE:
            raise Unavailable(f"{AT_ONCE} neuron sets are being identified; ask again when one is found")
        self._failed.pop(ref.id, None)
        self._tasks[ref.id] = asyncio.create_task(self._find(model, ref))

    def identifying(self, neuron_set_id: str) -> Identifying | None:
        """Return how the search for a set stands; None where nobody asked for it, or it is found."""
        if neuron_set_id in self._tasks:
            return Identifying(error=None)
        error = self._failed.get(neuron_set_id)
        return None if error is None else Identifying(error=error)

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _find(self, model: str, ref: NeuronsRef) -> None:
        try:
            await self._pool.find_neurons(model, ref)
        except AmpsweepError as error:
            self._failed[ref.id] = error
        except Exception:
            log.exception("neuron set %s could not be identified", ref.id)
            self._failed[ref.id] = EngineFailed("the identification failed; the server's log says why")
        finally:
            del self._tasks[ref.id]
