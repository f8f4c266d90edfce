from __future__ import annotations

import asyncio
import gc
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.errors import Conflict, DamagedFile, NotFound, Unavailable
from ampsweep.folders.corpus import Sentence
from engine.fake import FakeEngine
from engine.identify.record_request import RecordRequest
from engine.identify.stats import ActivationStats
from engine.neurons.formats.neuron_json import from_json
from engine.neurons.neuron_set import NeuronSet
from tests.worker.installation import Installation
from worker.neuron_set_cache import NeuronSetCache

pytestmark = pytest.mark.anyio


class CountingEngine(FakeEngine):
    def __init__(self, installation: Installation) -> None:
        super().__init__(installation.engine_info)
        self.recordings = 0

    async def record(self, sentences: Iterable[Sentence], request: RecordRequest) -> ActivationStats:
        self.recordings += 1
        await asyncio.sleep(0)
        return await super().record(sentences, request)


@pytest.fixture
def ref(installation: Installation) -> NeuronsRef:
    records = installation.store.list_cells(installation.submit().id).data
    return next(record.cell.neurons for record in records if record.cell.neurons is not None)


def neuron_set_cache(installation: Installation, engine: FakeEngine) -> NeuronSetCache:
    return NeuronSetCache(installation.neuron_sets, engine=engine, catalog=installation.catalog)


async def test_a_set_is_identified_once_however_many_cells_wait_for_it(
    installation: Installation, ref: NeuronsRef
) -> None:
    engine = CountingEngine(installation)
    cache = neuron_set_cache(installation, engine)
    assert await asyncio.gather(*(cache.load(ref) for _ in range(5))) == [ref.id] * 5
    assert engine.recordings == 1
    assert installation.neuron_sets.get(ref.id).method == "lape"


async def test_a_set_that_another_engine_has_finished_is_taken_from_the_disk(
    installation: Installation, ref: NeuronsRef
) -> None:
    await neuron_set_cache(installation, CountingEngine(installation)).load(ref)
    engine = CountingEngine(installation)
    await neuron_set_cache(installation, engine).load(ref)
    assert engine.recordings == 0


async def test_if_two_engines_identify_a_set_the_first_one_is_published(
    installation: Installation, ref: NeuronsRef
) -> None:
    await asyncio.gather(*(neuron_set_cache(installation, CountingEngine(installation)).load(ref) for _ in range(2)))
    assert [path.name for path in installation.neuron_sets.folder.iterdir()] == [ref.id], "nothing is left beside it"
    NeuronSet.load(installation.neuron_sets.path(ref.id))


async def test_a_failure_to_publish_leaves_nothing_and_can_be_tried_again(
    installation: Installation, ref: NeuronsRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: NeuronSet, _folder: Path) -> None:
        raise OSError("no space left")

    cache = neuron_set_cache(installation, CountingEngine(installation))
    with monkeypatch.context() as patched:
        patched.setattr(NeuronSet, "save", full)
        with pytest.raises(Unavailable, match=r"cannot be saved below .*no space"):
            await cache.load(ref)
    assert list(installation.neuron_sets.folder.iterdir()) == []
    assert await cache.load(ref) == ref.id


async def test_a_missing_set_that_cannot_be_identified_is_not_found(installation: Installation) -> None:
    with pytest.raises(NotFound, match="ns_gone"):
        await neuron_set_cache(installation, CountingEngine(installation)).load(NeuronsRef(id="ns_gone"))
    with pytest.raises(NotFound):
        await neuron_set_cache(installation, CountingEngine(installation)).load(NeuronsRef(id="../../etc"))


async def test_a_damaged_set_is_refused(installation: Installation, ref: NeuronsRef) -> None:
    await neuron_set_cache(installation, CountingEngine(installation)).load(ref)
    (installation.neuron_sets.path(ref.id) / "neurons.safetensors").write_bytes(b"spoilt")
    with pytest.raises(DamagedFile):
        await neuron_set_cache(installation, CountingEngine(installation)).load(ref)


async def test_a_changed_corpus_is_not_identified_under_the_planned_id(
    installation: Installation, ref: NeuronsRef, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(installation.catalog.corpora["atlas"], changed)
    with (changed / "fr.txt").open("a", encoding="utf-8") as file:
        file.write("Une phrase de plus.\n")
    installation = replace(installation, catalog=replace(installation.catalog, corpora={"atlas": changed}))
    engine = CountingEngine(installation)
    with pytest.raises(
        Conflict, match=f"{ref.id} can no longer be identified: corpus 'atlas' or the model has changed"
    ):
        await neuron_set_cache(installation, engine).load(ref)
    assert (engine.recordings, installation.neuron_sets.infos()) == (0, [])


async def test_the_longest_unused_sets_are_dropped_but_never_one_that_is_held(installation: Installation) -> None:
    engine = FakeEngine(installation.engine_info)
    cache = NeuronSetCache(installation.neuron_sets, engine=engine, catalog=installation.catalog, capacity=2)
    refs = []
    for index in range(5):
        neurons = from_json({"fr": {"0": [index]}}, model=installation.catalog.model("tiny"))
        installation.neuron_sets.publish(neurons.id, neurons.save)
        refs.append(NeuronsRef(id=neurons.id))

    def loaded() -> list[int]:
        return [index for index, ref in enumerate(refs) if ref.id in engine._neurons._sets]

    with cache.pinned(refs[0].id):
        for ref in refs[:4]:
            await cache.load(ref)
        assert loaded() == [0, 3]
        await cache.load(refs[4])
        assert loaded() == [0, 4]
        with cache.pinned(refs[4].id):
            await cache.load(refs[1])
            assert loaded() == [0, 1, 4], "what is in use is kept beyond the capacity"
    assert len(loaded()) == 2
    await cache.load(refs[2])
    assert len(loaded()) == 2
    assert await cache.load(refs[0]) == refs[0].id, "what was dropped is loaded again"


async def test_missing_ids_are_not_cached(installation: Installation) -> None:
    cache = neuron_set_cache(installation, CountingEngine(installation))
    for index in range(50):
        with pytest.raises(NotFound):
            await cache.load(NeuronsRef(id=f"ns_gone{index}"))
    gc.collect()
    assert not cache._locks
