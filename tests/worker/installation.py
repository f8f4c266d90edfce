"""An installation without HTTP and without a model: fake engines, the bundled facts, everything in one folder."""

from __future__ import annotations

import asyncio
import atexit
import gzip
import json
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import ampsweep
from api.http.change_notifier import ChangeNotifier
from engine.base import EngineInfo
from engine.fake import FAKE_INFO
from engine.vllm.settings import VllmSettings
from jobs.batches.files import BATCHES, BatchFiles
from jobs.batches.rows import RowAnswers
from jobs.clock import Clock, SystemClock
from jobs.execution import Completions
from jobs.neuron_sets.bucket import neuron_sets_at
from jobs.neuron_sets.identifications import IDENTIFYING, Identifications
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.estimate import Estimator
from jobs.planning.planner import plan
from jobs.results.finalization.assembly import assemble
from jobs.results.finalization.finalization import finalize
from jobs.results.retention import clean_up
from jobs.results.writer import Results
from jobs.spec.sweep import parse_spec
from jobs.storage.factory import join, open_storage
from jobs.store.protocol import Store
from jobs.store.records import SweepLease, SweepRecord
from jobs.store.sql.store import SqlStore, random_id
from tests.jobs.cluster import quick_sql_store
from worker.batches.service import LeasedBatchService
from worker.dispatcher import Dispatcher
from worker.engines import EngineSpec
from worker.evaluation.service import LeasedEvaluationService
from worker.pool.engine_session import WorkerConfig
from worker.pool.local_pool import LocalPool
from worker.pool.pool import Pool
from worker.pool.supervisor import RestartPolicy

ATLAS = Path(ampsweep.__file__).parent / "atlas"
SENTENCES = 80
PROMPT = RestartPolicy(first_delay=0.001)
"""Engines of tests are started again without a wait."""


@cache
def corpus() -> Path:
    """Return a folder with the first sentences of the bundled corpus, which do for an engine without a model."""
    folder = Path(tempfile.mkdtemp(prefix="ampsweep-corpus-"))
    atexit.register(shutil.rmtree, folder)
    for path in (ATLAS / "corpus").glob("*.txt.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            (folder / path.name.removesuffix(".gz")).write_text("".join(islice(lines, SENTENCES)), encoding="utf-8")
    return folder


SPEC: dict[str, Any] = {
    "name": "first-look",
    "model": "tiny",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "tr"], "top_rate": 0.05},
    "interventions": {"languages": ["fr", "tr"], "op": "scale", "factors": [0.5, 2.0], "controls": ["random"]},
    "tasks": [{"name": "lss", "languages": ["en"], "limit": 4}],
    "seed": 0,
}


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The folders and the store of a server."""

    data: Path
    store: Store
    catalog: Catalog
    neurons: str
    published: str
    neuron_sets: NeuronSets
    identifications: Identifications
    results: Results

    @classmethod
    def build(
        cls, data: Path, *, clock: Clock | None = None, store: Store | None = None, published: str | None = None
    ) -> Installation:
        """Make an installation in a folder. Results and neuron sets are stored there, or in the storage `published`.

        A store that is not given is made, and closed with the installation.
        """
        model = data / "models" / "tiny"
        model.mkdir(parents=True)
        (model / "config.json").write_text(json.dumps({"num_hidden_layers": 4, "intermediate_size": 32}))
        (model / "model.safetensors").write_bytes(b"weights")
        results = published or str(data / "results")
        neurons = join(published, "neurons") if published else str(data / "neurons")
        own_store = None
        if store is None:
            store = own_store = quick_sql_store(data, clock or SystemClock(), random_id)
        installation = cls(
            data=data,
            store=store,
            catalog=Catalog(models={"tiny": model}, corpora={"atlas": corpus()}, atlas=ATLAS, engine="fake"),
            neurons=neurons,
            published=results,
            neuron_sets=neuron_sets_at(neurons),
            identifications=Identifications(open_storage(neurons, IDENTIFYING), clock or SystemClock()),
            results=Results(open_storage(results)),
        )
        if own_store is not None:
            weakref.finalize(installation, own_store.close)
        return installation

    @property
    def worker_config(self) -> WorkerConfig:
        return WorkerConfig(catalog=self.catalog, neurons=self.neurons, results=self.published)

    @property
    def engine_info(self) -> EngineInfo:
        """What an engine of the model says of itself."""
        return replace(FAKE_INFO, model="tiny", fingerprint=self.catalog.model("tiny").fingerprint)

    @property
    def sql_store(self) -> SqlStore:
        """The store with what only the SQL store has: evaluations and ratings."""
        assert isinstance(self.store, SqlStore)
        return self.store

    def estimator(self) -> Estimator:
        """Estimate by what the store holds, which a store without a history does not."""
        history = self.store.history if isinstance(self.store, SqlStore) else None
        return Estimator(self.catalog, self.neuron_sets, history=history, memory=lambda _model: 3 * 2**30)

    def evaluation_service(self, completions: Completions, **options: Any) -> LeasedEvaluationService:
        return LeasedEvaluationService(
            completions,
            catalog=self.catalog,
            store=self.store,
            results=self.results,
            evaluations=self.sql_store.evaluations,
            ratings=self.sql_store.ratings,
            **{"owner": "test", **options},
        )

    def batch_service(self, answers: RowAnswers, **options: Any) -> LeasedBatchService:
        files = BatchFiles(open_storage(self.published, BATCHES))
        defaults: dict[str, Any] = {"clock": SystemClock(), "owner": "test"}
        return LeasedBatchService(answers, batches=self.sql_store.batches, files=files, **{**defaults, **options})

    def engine(self, *, count: int = 1, max_model_len: int | None = None, **options: Any) -> EngineSpec:
        return EngineSpec(
            model="tiny",
            folder=self.catalog.models["tiny"],
            kind="fake",
            count=count,
            cpus=0.1,
            vllm=VllmSettings(max_model_len=max_model_len, adapters=self.catalog.adapters.get("tiny", {})),
            options=options,
        )

    def submit(self, **changes: Any) -> SweepRecord:
        spec = parse_spec({**SPEC, **changes})
        cells = plan(spec, self.catalog, self.neuron_sets)
        return self.store.create_sweep(name=spec.name, spec=spec.to_dict(), cells=cells)

    def dispatcher(self, pool: Pool, **options: Any) -> Dispatcher:
        def finish(lease: SweepLease) -> None:
            finalize(self.store, lease, partial(assemble, self.results))

        return Dispatcher(store=self.store, pool=pool, finalize=finish, owner="test", **options)

    def clean_up(self) -> None:
        evaluations = self.store.evaluations if isinstance(self.store, SqlStore) else None
        clean_up(self.store, self.results, evaluations=evaluations, unfinished_after=3600.0)

    @asynccontextmanager
    async def pool(self, *, cells_per_engine: int = 8, **engine: Any) -> AsyncIterator[LocalPool]:
        pool = LocalPool([self.engine(**engine)], self.worker_config, cells_per_engine=cells_per_engine, policy=PROMPT)
        await pool.start()
        try:
            await pool.ready()
            yield pool
        finally:
            await pool.stop()


async def until(notifier: ChangeNotifier, condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; check it after every notification."""
    async with asyncio.timeout(60):
        while True:
            subscription = notifier.subscribe()
            if condition():
                return
            await subscription.wait()


async def drain(installation: Installation, dispatcher: Dispatcher, *, until: Callable[[], bool]) -> None:
    """Turn by hand until something is so; no clock, no waiting for what is not under way."""
    for _ in range(200):
        if until():
            return
        await dispatcher.poll_once()
        await dispatcher.idle()
    raise AssertionError("it never came to be")
