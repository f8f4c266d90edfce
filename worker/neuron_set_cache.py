"""Cache of the neuron sets that one engine has loaded. A set that does not exist yet is identified first.

A set is published atomically, so engines that share a disk or a bucket find the sets that others have finished. Within
one engine a set is identified once, however many cells wait for it. Two engines may identify the same set at the same
time; the first to finish is kept. An interrupted identification continues from its checkpoint on the same disk.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from ampsweep.domain.neurons.neuron_set import IdentificationRequest, NeuronsRef
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import Conflict, NotFound
from ampsweep.folders.corpus import Corpus
from engine.base import Engine, Steering
from engine.identify.identification import checkpoint_in, identify, tracker_of
from engine.identify.tracker import RecordingTracker
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import resolve
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog

CAPACITY = 8
"""How many sets an engine keeps loaded. The patch values of a set take a few hundred megabytes with a large model."""


class NeuronSetCache:
    """Loads neuron sets into an engine by id, and unloads the least recently used ones."""

    def __init__(self, sets: NeuronSets, *, engine: Engine, catalog: Catalog, capacity: int = CAPACITY) -> None:
        """Keep at most `capacity` sets loaded, plus those that are pinned."""
        self._sets = sets
        self._engine = engine
        self._catalog = catalog
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # a lock lives while it is in use
        self._loaded: OrderedDict[str, NeuronSet] = OrderedDict()  # least recently used first
        self._capacity = capacity
        self._pins = Counter[str]()
        self._trackers: dict[str, RecordingTracker] = {}

    @contextmanager
    def pinned(self, neuron_set_id: str | None) -> Iterator[None]:
        """Keep a set in the cache during the block, once it is loaded. Does nothing for None."""
        if neuron_set_id is None:
            yield
            return
        self._pins[neuron_set_id] += 1
        try:
            yield
        finally:
            self._pins[neuron_set_id] -= 1
            if not self._pins[neuron_set_id]:
                del self._pins[neuron_set_id]
            self._evict()

    async def load(self, ref: NeuronsRef) -> str:
        """Load a set into the engine, identifying it first if necessary, and return its id.

        Raises:
            NotFound: The set does not exist, and the reference does not say how to identify it.
            InvalidRequest: The set was made for a model of another shape.
            Conflict: The corpus or the model has changed since the reference was made.
        """
        async with self._locks.setdefault(ref.id, asyncio.Lock()):
            if ref.id not in self._loaded:
                neuron_set = await self._read_or_identify(ref)
                self._engine.add_neurons(neuron_set)
                self._loaded[ref.id] = neuron_set
            self._loaded.move_to_end(ref.id)
        self._evict()
        return ref.id

    async def get(self, ref: NeuronsRef) -> NeuronSet:
        """Load a set into the engine as `load` does, and return it. It must be pinned."""
        return self._loaded[await self.load(ref)]

    def _evict(self) -> None:
        """Unload the least recently used sets beyond the capacity, except pinned ones and the one used last."""
        unpinned = [name for name in list(self._loaded)[:-1] if name not in self._pins]
        for name in unpinned[: max(0, len(self._loaded) - self._capacity)]:
            del self._loaded[name]
            self._engine.drop_neurons(name)

    def recordings(self) -> dict[str, RecordingProgress]:
        """Return how far the sets are that are being identified, by their ids."""
        return {neuron_set_id: tracker.progress() for neuron_set_id, tracker in self._trackers.items()}

    def count(self, steering: Steering) -> int:
        """Return how many neurons an intervention on a loaded set changes."""
        return len(resolve(steering.intervention, self._loaded[steering.neurons]).indices)

    async def _read_or_identify(self, ref: NeuronsRef) -> NeuronSet:
        try:
            return await asyncio.to_thread(self._read, ref.id)
        except NotFound:
            if ref.method is None or ref.corpus is None:
                raise NotFound(f"no neuron set {ref.id!r}", param="neurons") from None
        corpus = await asyncio.to_thread(
            Corpus.open, self._catalog.corpus(ref.corpus), languages=ref.languages, name=ref.corpus
        )
        request = IdentificationRequest.of(ref.method, ref.params)
        fingerprint = self._engine.info.fingerprint
        found_id = request.neuron_set_id(fingerprint=fingerprint, corpus_hash=corpus.hash, languages=corpus.languages)
        if found_id != ref.id:
            raise Conflict(
                f"neuron set {ref.id} can no longer be identified: corpus {ref.corpus!r} or the model has changed "
                "since it was requested; submit the request again"
            )
        checkpoint = checkpoint_in(self._sets.folder, self._engine.info, corpus, request)
        self._trackers[ref.id] = tracker = await asyncio.to_thread(tracker_of, corpus, request)
        try:
            neuron_set = await identify(self._engine, corpus, request, checkpoint=checkpoint, tracker=tracker)
        finally:
            del self._trackers[ref.id]
        assert neuron_set.id == ref.id, "the set has another id than its request"
        await asyncio.to_thread(self._sets.publish, ref.id, neuron_set.save)
        await asyncio.to_thread(checkpoint.discard)
        return await asyncio.to_thread(self._read, ref.id)  # the set of another engine, if that one was faster

    def _read(self, neuron_set_id: str) -> NeuronSet:
        return NeuronSet.load(self._sets.fetch(neuron_set_id))
