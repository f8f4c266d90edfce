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
from api.bell import Bell
from api.door import ALWAYS_OPEN, Door
from api.keys import ApiKey, KeyFile, KeyScope
from api.limits import Limits
from api.rates import Rates
from api.services import Services
from jobs.store.states import SWEEP_ENDED
from tests.worker.house import SPEC, House, until
from worker.completions import PoolCompletions
from worker.dispatcher import Dispatcher
from worker.local_pool import LocalPool
from worker.neuron_finder import NeuronFinder

LIMITS = Limits(body_bytes=100_000, requests_a_minute=None)


@dataclass(frozen=True, kw_only=True)
class Server:
    """The application with a client of it."""

    app: FastAPI
    http: httpx.AsyncClient
    house: House
    bell: Bell
    pool: LocalPool
    dispatcher: Dispatcher
    keys: KeyFile

    def key(self, *scopes: KeyScope) -> tuple[ApiKey, dict[str, str]]:
        """Make a key, which closes the server to all without one; return it and the header that has it."""
        name = f"key-{len(self.keys.all())}"
        key, token = self.keys.create(name, frozenset(scopes), now=0.0)
        return key, {"Authorization": f"Bearer {token}"}

    async def submit(self, **changes: Any) -> dict[str, Any]:
        answer = await self.http.post("/v1/sweeps", json={**SPEC, **changes})
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def ended(self, sweep_id: str) -> None:
        await until(self.bell, lambda: self.house.store.get_sweep(sweep_id).state in SWEEP_ENDED)

    async def done(self, **changes: Any) -> str:
        sweep_id: str = (await self.submit(**changes))["id"]
        await self.ended(sweep_id)
        return sweep_id


@asynccontextmanager
async def serving(
    house: House,
    *,
    working: bool = True,
    limits: Limits = LIMITS,
    exposed: bool = False,
    open_paths: frozenset[str] = ALWAYS_OPEN,
    **engine: Any,
) -> AsyncIterator[Server]:
    """Serve; `working` False leaves the dispatcher still, so that sweeps stay as they were sent."""
    bell = Bell()
    keys = KeyFile(house.data / "keys.json")
    async with house.pool(**engine) as pool:
        dispatcher = house.dispatcher(pool, on_change=bell.ring, poll=0.2)
        finder = NeuronFinder(
            pool,
            catalog=house.catalog,
            neuron_sets=house.neuron_sets,
            identifications=house.identifications,
        )
        services = Services(
            store=house.store,
            results=house.results,
            catalog=house.catalog,
            neuron_sets=house.neuron_sets,
            completions=PoolCompletions(pool, catalog=house.catalog, neuron_sets=house.neuron_sets),
            neuron_maker=finder,
            muscle=pool,
            bell=bell,
            wake=dispatcher.wake,
            tally=dispatcher.tally,
            limits=limits,
            event_poll=60.0,
        )
        rates = Rates(limits.requests_a_minute, now=lambda: 0.0)
        door = Door(keys, exposed=exposed, rates=rates, open_paths=open_paths)
        app = await asyncio.to_thread(create_app, services, door)  # what it imports takes its time
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        if working:
            dispatcher.start()
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                yield Server(app=app, http=http, house=house, bell=bell, pool=pool, dispatcher=dispatcher, keys=keys)
        finally:
            await finder.stop()
            await dispatcher.stop()
