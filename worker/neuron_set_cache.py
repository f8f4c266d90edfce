"""The neuron sets of one engine: those on disk are loaded when first used, those not there yet are identified.

A set appears whole or not at all, so engines that share a disk or a bucket find what another has finished. Within one
engine a set is identified once, however many cells wait for it; two engines may identify the same set at the same
time, and the first to finish is kept. An identification that was stopped goes on where it was, on the same disk.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from ampsweep.domain.neuron_set import IdentificationRequest, NeuronsRef
from ampsweep.errors import Conflict, NotFound
from ampsweep.folders.corpus import Corpus
from engine.base import Engine, Steering
from engine.identify.identification import checkpoint_in, identify
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import resolve
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog

CAPACITY = 8
"""Sets of one engine that are kept loaded; the patch values of one take some hundred megabytes with a large model."""


class NeuronSetCache:
    """Makes neuron sets usable in an engine, by their ids."""

    def __init__(self, sets: NeuronSets, *, engine: Engine, catalog: Catalog, capacity: int = CAPACITY) -> None:
        """Keep at most `capacity` sets loaded, and those besides that are held."""
        self._sets = sets
        self._engine = engine
        self._catalog = catalog
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # each lives while it is in use
        self._loaded: OrderedDict[str, NeuronSet] = OrderedDict()  # the longest unused first
        self._capacity = capacity
        self._holders = Counter[str]()

    @contextmanager
    def holding(self, neuron_set_id: str | None) -> Iterator[None]:
        """Keep a set, once it is loaded, for the time of the block; of None keep nothing."""
        if neuron_set_id is None:
            yield
            return
        self._holders[neuron_set_id] += 1
        try:
            yield
        finally:
            self._holders[neuron_set_id] -= 1
            if not self._holders[neuron_set_id]:
                del self._holders[neuron_set_id]
            self._evict()

    async def load(self, ref: NeuronsRef) -> str:
        """Make a set usable in the engine and return its id.

        Raises NotFound where it is not there and the reference does not say how to make it, InvalidRequest where it
        was made for a model of another shape, Conflict where corpus or model are not those that it was asked for with.
        """
        async with self._locks.setdefault(ref.id, asyncio.Lock()):
            if ref.id not in self._loaded:
                found = await self._get(ref)
                self._engine.add_neurons(found)
                self._loaded[ref.id] = found
            self._loaded.move_to_end(ref.id)
        self._evict()
        return ref.id

    def _evict(self) -> None:
        """Drop the longest unused sets that are too many; never one that is held, or the one used last."""
        idle = [name for name in list(self._loaded)[:-1] if name not in self._holders]
        for name in idle[: max(0, len(self._loaded) - self._capacity)]:
            del self._loaded[name]
            self._engine.drop_neurons(name)

    def count(self, steering: Steering) -> int:
        """Return how many neurons a steering with a loaded set changes."""
        return len(resolve(steering.intervention, self._loaded[steering.neurons]).indices)

    async def _get(self, ref: NeuronsRef) -> NeuronSet:
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
                f"neuron set {ref.id} cannot be found any more: corpus {ref.corpus!r} or the model has changed since "
                "it was asked for; send the request again"
            )
        checkpoint = checkpoint_in(self._sets.folder, self._engine.info, corpus, request)
        found = await identify(self._engine, corpus, request, checkpoint=checkpoint)
        assert found.id == ref.id, "the set has another id than the request for it"
        await asyncio.to_thread(self._sets.publish, ref.id, found.save)
        await asyncio.to_thread(checkpoint.discard)
        return await asyncio.to_thread(self._read, ref.id)  # where another engine was faster, it is that engine's

    def _read(self, neuron_set_id: str) -> NeuronSet:
        return NeuronSet.load(self._sets.fetch(neuron_set_id))
