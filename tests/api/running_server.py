"""A server in the test's event loop: real routes, store, dispatcher and files; a fake engine; no socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.auth.api_keys import ApiKey, KeyFile, KeyScope
from api.auth.authentication import ALWAYS_OPEN, AuthPolicy
from api.auth.limits import Limits
from api.auth.rate_limit import RateLimiter
from api.http.change_notifier import ChangeNotifier
from api.openai.batch_rows import OpenAIRows
from api.services import Services
from jobs.presets import PRESETS, Presets
from jobs.storage.factory import open_storage
from jobs.store.transitions import SWEEP_ENDED
from tests.worker.installation import SPEC, Installation, until
from worker.batches.service import LeasedBatchService
from worker.completions import PoolCompletions
from worker.dispatcher import Dispatcher
from worker.neuron_set_service import PoolNeuronSetService
from worker.pool.local_pool import LocalPool

LIMITS = Limits(body_bytes=100_000, requests_a_minute=None)


@dataclass(frozen=True, kw_only=True)
class Server:
    """The application of a server, its parts, and a client."""

    app: FastAPI
    http: httpx.AsyncClient
    installation: Installation
    notifier: ChangeNotifier
    pool: LocalPool
    dispatcher: Dispatcher
    batch_service: LeasedBatchService
    keys: KeyFile

    def key(self, *scopes: KeyScope) -> tuple[ApiKey, dict[str, str]]:
        """Create an API key, so that the server requires one; return it and its request header."""
        name = f"key-{len(self.keys.all())}"
        key, token = self.keys.create(name, frozenset(scopes), now=0.0)
        return key, {"Authorization": f"Bearer {token}"}

    async def submit(self, **changes: Any) -> dict[str, Any]:
        answer = await self.http.post("/v1/sweeps", json={**SPEC, **changes})
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def ended(self, sweep_id: str) -> None:
        await until(self.notifier, lambda: self.installation.store.get_sweep(sweep_id).state in SWEEP_ENDED)

    async def done(self, **changes: Any) -> str:
        sweep_id: str = (await self.submit(**changes))["id"]
        await self.ended(sweep_id)
        return sweep_id


@asynccontextmanager
async def running_server(
    installation: Installation,
    *,
    working: bool = True,
    limits: Limits = LIMITS,
    exposed: bool = False,
    open_paths: frozenset[str] = ALWAYS_OPEN,
    **engine: Any,
) -> AsyncIterator[Server]:
    """Run a server; without `working` its dispatcher does not start, so that sweeps stay as they were submitted."""
    notifier, loop = ChangeNotifier(), asyncio.get_running_loop()

    def clean_up() -> None:
        installation.clean_up()
        loop.call_soon_threadsafe(notifier.notify)

    keys = KeyFile(installation.data / "keys.json")
    async with installation.pool(**engine) as pool:
        dispatcher = installation.dispatcher(pool, on_change=notifier.notify, clean_up=clean_up, poll=0.2)
        finder = PoolNeuronSetService(
            pool,
            catalog=installation.catalog,
            neuron_sets=installation.neuron_sets,
            identifications=installation.identifications,
        )
        completions = PoolCompletions(pool, catalog=installation.catalog, neuron_sets=installation.neuron_sets)
        evaluation_service = installation.evaluation_service(completions, poll=0.2)
        presets = Presets(open_storage(str(installation.data / "neurons"), PRESETS))
        rows = OpenAIRows(completions=completions, catalog=installation.catalog, presets=presets, limits=limits)
        batch_service = installation.batch_service(rows, poll=0.2)
        services = Services(
            store=installation.store,
            results=installation.results,
            catalog=installation.catalog,
            neuron_sets=installation.neuron_sets,
            presets=presets,
            completions=completions,
            neuron_set_service=finder,
            evaluation_service=evaluation_service,
            batch_service=batch_service,
            engine_monitor=pool,
            estimator=installation.estimator(),
            notifier=notifier,
            wake=dispatcher.wake,
            clean_up=dispatcher.clean_up_now,
            recording_of=dispatcher.recording_of,
            dispatcher_stats=dispatcher.dispatcher_stats,
            limits=limits,
            event_poll=60.0,
        )
        rate_limiter = RateLimiter(limits.requests_a_minute, now=lambda: 0.0)
        policy = AuthPolicy(keys, exposed=exposed, rate_limiter=rate_limiter, open_paths=open_paths)
        app = await asyncio.to_thread(create_app, services, policy)  # what it imports takes its time
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        if working:
            dispatcher.start()
            evaluation_service.start()
            batch_service.start()
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                yield Server(
                    app=app,
                    http=http,
                    installation=installation,
                    notifier=notifier,
                    pool=pool,
                    dispatcher=dispatcher,
                    batch_service=batch_service,
                    keys=keys,
                )
        finally:
            await batch_service.stop()
            await evaluation_service.stop()
            await finder.stop()
            await dispatcher.stop()
