"""The REST interface as coroutines: what is asked, and what the answers mean.

Nothing here knows whether an event loop runs it (see `ampsweep.client.transport`), so both clients are these calls.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload
from urllib.parse import quote

from ampsweep.client.errors import raise_error
from ampsweep.client.models import (
    Cell,
    Choice,
    Completion,
    DefaultNeuronSet,
    Engine,
    Event,
    Message,
    Model,
    NeuronSet,
    Summary,
    Sweep,
)
from ampsweep.client.session import Session, get
from ampsweep.client.tables import TableForm
from ampsweep.client.transport import Request
from ampsweep.errors import AmpsweepError, EngineFailed, Unavailable
from ampsweep.spec_file import read_spec

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

RECONNECT_SECONDS = 1.0
"""How long `events` waits before it takes up a broken stream again; it gives up after RECONNECTS in a row."""
RECONNECTS = 30


class Api:
    """Everything a server can be asked. Errors of the server are raised as what they were over there."""

    def __init__(self, server: Session) -> None:
        self.url = server.url
        self._server = server

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def ready(self) -> bool:
        """Whether the server answers and every model on its list has an engine that is ready."""
        try:
            await self._server.once(get(f"{self.url}/readyz"))
        except AmpsweepError:
            return False
        return True

    async def submit(
        self, spec: Mapping[str, Any] | Path | str, *, idempotency_key: str | None = None, priority: int = 0
    ) -> Sweep:
        """Send a spec, given as a dict or as the path of a YAML or JSON file.

        The same `idempotency_key` with the same spec returns the sweep of the first call. Each call has a key of its
        own where none is given, so one that has to be sent again makes no second sweep. Sweeps of higher `priority`
        (-100 to 100) go first. Raises InvalidRequest with `param` naming the field.
        """
        content = dict(spec) if isinstance(spec, Mapping) else read_spec(Path(spec))
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        return _sweep(
            await self._server.json(
                Request(
                    method="POST",
                    path="/sweeps",
                    json=content,
                    headers=headers,
                    params={"priority": priority},
                    repeatable=True,
                )
            )
        )

    async def sweep(self, sweep_id: str) -> Sweep:
        """Return a sweep as it stands; NotFound if there is none."""
        return _sweep(await self._server.json(get(f"/sweeps/{_id(sweep_id)}")))

    async def sweeps(self) -> AsyncGenerator[Sweep]:
        """Yield all sweeps, newest first."""
        async with aclosing(self._server.pages("/sweeps")) as found:
            async for each in found:
                yield _sweep(each)

    async def cells(self, sweep_id: str, *, failures: bool = False) -> AsyncGenerator[Cell]:
        """Yield a sweep's cells in the plan's order; with `failures` those that failed or have failed samples."""
        asked = {"failures": "true"} if failures else {}
        async with aclosing(self._server.pages(f"/sweeps/{_id(sweep_id)}/cells", **asked)) as found:
            async for each in found:
                yield cast("Cell", each)

    async def cancel(self, sweep_id: str) -> Sweep:
        """Ask for a sweep to stop; Conflict if it has ended."""
        return _sweep(await self._server.json(_post(f"/sweeps/{_id(sweep_id)}/cancel")))

    async def pause(self, sweep_id: str) -> Sweep:
        """Begin no more cells of a sweep; Conflict unless it is in progress."""
        return _sweep(await self._server.json(_post(f"/sweeps/{_id(sweep_id)}/pause")))

    async def resume(self, sweep_id: str) -> Sweep:
        """Let a paused sweep go on; Conflict unless it is paused."""
        return _sweep(await self._server.json(_post(f"/sweeps/{_id(sweep_id)}/resume")))

    async def events(self, sweep_id: str, *, after: int = 0) -> AsyncGenerator[Event]:
        """Yield the events after the id `after`, past ones first, until the sweep has ended.

        A broken connection is taken up again where it broke: no event is lost and none comes twice.
        """
        ended = (await self.sweep(sweep_id)).ended
        failures = 0
        while True:
            try:
                async with aclosing(self._event_stream(sweep_id, after)) as events:
                    async for event in events:
                        after, failures = event.id, 0
                        yield event
                if ended:  # only a stream that began after the end is sure to have held everything
                    return
                ended = (await self.sweep(sweep_id)).ended
            except Unavailable:
                failures += 1
                if failures > RECONNECTS:
                    raise
            if failures or not ended:
                await self._server.sleep(RECONNECT_SECONDS)

    async def watch(self, sweep_id: str, *, interval: float = 0.25) -> AsyncGenerator[Sweep]:
        """Yield the sweep now, after its events (at most once in `interval` seconds), and once it has ended."""
        yield await self.sweep(sweep_id)
        shown = time.monotonic()
        async with aclosing(self.events(sweep_id)) as events:
            async for _ in events:
                if time.monotonic() - shown >= interval:
                    yield await self.sweep(sweep_id)
                    shown = time.monotonic()
        yield await self.sweep(sweep_id)

    async def wait(self, sweep_id: str) -> Sweep:
        """Wait until a sweep has ended, and return it."""
        async with aclosing(self.events(sweep_id)) as events:
            async for _ in events:
                pass
        return await self.sweep(sweep_id)

    @overload
    async def results(self, sweep_id: str, *, as_: Literal["arrow"] = "arrow", partial: bool = False) -> pa.Table: ...
    @overload
    async def results(self, sweep_id: str, *, as_: Literal["pandas"], partial: bool = False) -> pd.DataFrame: ...
    @overload
    async def results(self, sweep_id: str, *, as_: Literal["polars"], partial: bool = False) -> pl.DataFrame: ...
    async def results(self, sweep_id: str, *, as_: TableForm = "arrow", partial: bool = False) -> Any:
        """Return all samples of a sweep as one table. For more than fits in memory use `download`."""
        return await self._server.table(f"/sweeps/{_id(sweep_id)}/results", as_, **_asked(partial))

    async def download(self, sweep_id: str, path: Path | str, *, partial: bool = False) -> Path:
        """Write the Parquet of a sweep's samples to `path`, whole or not at all, and return the path.

        With `partial` it is that of the cells completed by now (metadata `ampsweep.partial`), before the sweep's end.
        """
        asked = _asked(partial)
        return await self._server.download(get(f"/sweeps/{_id(sweep_id)}/results", **asked), Path(path))

    async def download_summary(self, sweep_id: str, path: Path | str, *, partial: bool = False) -> Path:
        """Write the Parquet of a sweep's summary to `path`, as `download` does with the samples."""
        asked = {"format": "parquet", **_asked(partial)}
        return await self._server.download(get(f"/sweeps/{_id(sweep_id)}/summary", **asked), Path(path))

    @overload
    async def summary(self, sweep_id: str, *, as_: None = None, partial: bool = False) -> Summary: ...
    @overload
    async def summary(self, sweep_id: str, *, as_: Literal["arrow"], partial: bool = False) -> pa.Table: ...
    @overload
    async def summary(self, sweep_id: str, *, as_: Literal["pandas"], partial: bool = False) -> pd.DataFrame: ...
    @overload
    async def summary(self, sweep_id: str, *, as_: Literal["polars"], partial: bool = False) -> pl.DataFrame: ...
    async def summary(self, sweep_id: str, *, as_: TableForm | None = None, partial: bool = False) -> Any:
        """Return the metrics of a finished sweep: as a dict with the best factors, or the rows as a table."""
        path = f"/sweeps/{_id(sweep_id)}/summary"
        if as_ is None:
            return await self._server.json(get(path, format="json", **_asked(partial)))
        return await self._server.table(path, as_, format="parquet", **_asked(partial))

    async def models(self) -> list[Model]:
        """Return the models the server offers."""
        return cast("list[Model]", [each async for each in self._server.pages("/models")])

    async def engines(self) -> list[Engine]:
        """Return the engines of this server, with their states."""
        return cast("list[Engine]", [each async for each in self._server.pages("/engines")])

    async def retry_engines(self, model: str) -> list[Engine]:
        """Start a model's engines that have failed, or wait for their next start, now; return the model's engines.

        Needs a key with the scope `admin`. NotFound if the model has no engine, Conflict if all of them are ready.
        """
        body = await self._server.json(_post(f"/engines/{quote(model) or '-'}/retry"))
        return cast("list[Engine]", body["data"])

    async def neuron_sets(self, *, model: str | None = None) -> list[NeuronSet]:
        """Return the neuron sets the server has, oldest first; `languages` says how many neurons each language has.

        Of a `model` those that can steer it; UnknownName if the server does not offer it.
        """
        asked = {} if model is None else {"model": model}
        return cast("list[NeuronSet]", [each async for each in self._server.pages("/neuron-sets", **asked)])

    async def neuron_set(self, neuron_set_id: str, *, neurons: bool = False) -> NeuronSet:
        """Return one neuron set, with its `neurons` if they are asked for; NotFound if there is none."""
        asked = {"include": "neurons"} if neurons else {}
        return cast("NeuronSet", await self._server.json(get(f"/neuron-sets/{_id(neuron_set_id)}", **asked)))

    async def create_neuron_set(self, model: str, neurons: Mapping[str, Any]) -> NeuronSet:
        """Bring in neurons, {language: {layer: [index, ...]}}, or have them found, as a spec's `neurons` says.

        A set that has to be found is `in_progress`; `wait_for_neurons` waits for it. Made twice, it is one set.
        """
        body = {"model": model, "neurons": dict(neurons)}
        return cast(
            "NeuronSet",
            await self._server.json(Request(method="POST", path="/neuron-sets", json=body, repeatable=True)),
        )

    async def default_neuron_set(self, model: str) -> DefaultNeuronSet:
        """Return which neuron set steers requests to a model that name none: the default, or the only set it has."""
        return cast("DefaultNeuronSet", await self._server.json(get(_default_of(model))))

    async def set_default_neuron_set(self, model: str, neuron_set_id: str) -> DefaultNeuronSet:
        """Make a set the default of a model; Forbidden without the scope admin."""
        body = {"neuron_set": neuron_set_id}
        asked = Request(method="PUT", path=_default_of(model), json=body, repeatable=True)
        return cast("DefaultNeuronSet", await self._server.json(asked))

    async def clear_default_neuron_set(self, model: str) -> DefaultNeuronSet:
        """Take the default of a model back, and return what holds without it; Forbidden without the scope admin."""
        asked = Request(method="DELETE", path=_default_of(model), repeatable=True)
        return cast("DefaultNeuronSet", await self._server.json(asked))

    async def wait_for_neurons(self, neuron_set_id: str, *, interval: float = 1.0) -> NeuronSet:
        """Ask every `interval` seconds until a neuron set is there, and return it; EngineFailed where none is found."""
        while (found := await self.neuron_set(neuron_set_id))["status"] == "in_progress":
            await self._server.sleep(interval)
        if found["status"] == "failed":
            raise EngineFailed(f"{neuron_set_id} could not be identified: {found.get('error')}")
        return found

    async def complete(
        self, /, model: str, prompt: str, *, intervention: Mapping[str, Any] | None = None, **options: Any
    ) -> Completion:
        """Continue a prompt, steered by `intervention` or not.

        `options` are the further fields of `POST /v1/completions`: OpenAI's (max_tokens, temperature, top_p, n, seed,
        stop, logprobs) and `neurons`, the id of a neuron set (without it the model's default, or its only one).
        """
        body = {"model": model, "prompt": prompt, "intervention": intervention, **options}
        return _completion(await self._server.json(_generation("/completions", body)))

    async def stream(
        self, /, model: str, prompt: str, *, intervention: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncGenerator[Choice]:
        """Continue a prompt as `complete` does, and yield the text piece by piece. Closing the iterator stops it."""
        body = {"model": model, "prompt": prompt, "intervention": intervention, **options}
        async with aclosing(self._pieces("/completions", body)) as pieces:
            async for piece in pieces:
                yield piece

    async def chat(
        self,
        /,
        model: str,
        messages: Sequence[Message],
        *,
        intervention: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Completion:
        """Answer a chat, steered or not; `options` as those of `complete`, by the names of OpenAI's chats."""
        body = {"model": model, "messages": list(messages), "intervention": intervention, **options}
        return _completion(await self._server.json(_generation("/chat/completions", body)))

    async def stream_chat(
        self,
        /,
        model: str,
        messages: Sequence[Message],
        *,
        intervention: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncGenerator[Choice]:
        """Answer a chat as `chat` does, and yield the text piece by piece. Closing the iterator stops it."""
        body = {"model": model, "messages": list(messages), "intervention": intervention, **options}
        async with aclosing(self._pieces("/chat/completions", body)) as pieces:
            async for piece in pieces:
                yield piece

    async def _pieces(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Choice]:
        async with aclosing(self._server.server_events(_generation(path, {**body, "stream": True}))) as events:
            async for event in events:
                if event.data == "[DONE]":
                    return
                piece = raise_error(json.loads(event.data))
                for choice in piece["choices"]:
                    yield _choice(choice, piece)

    async def _event_stream(self, sweep_id: str, after: int) -> AsyncGenerator[Event]:
        headers = {"Last-Event-ID": str(after)} if after else {}
        ask = Request(method="GET", path=f"/sweeps/{_id(sweep_id)}/events", headers=headers, repeatable=True)
        async with aclosing(self._server.server_events(ask)) as events:
            async for event in events:
                yield Event(id=int(event.id), type=event.type, data=json.loads(event.data))


def _id(given: str) -> str:
    """Return an id as a part of a path, whatever it holds."""
    return quote(given, safe="") or "-"


def _asked(partial: bool) -> dict[str, str]:
    return {"partial": "true"} if partial else {}


def _post(path: str) -> Request:
    return Request(method="POST", path=path, repeatable=False)


def _default_of(model: str) -> str:
    return f"/models/{quote(model) or '-'}/default-neuron-set"


def _generation(path: str, body: Mapping[str, Any]) -> Request:
    return Request(method="POST", path=path, json=body, repeatable=False)


def _sweep(content: Mapping[str, Any]) -> Sweep:
    return Sweep.model_validate(content)


def _completion(content: Mapping[str, Any]) -> Completion:
    choices = tuple(_choice(choice, content) for choice in content["choices"])
    own = {"usage": content["usage"], "neuron_set": content.get("neuron_set")}
    return Completion.model_validate({"choices": choices, **own})


def _choice(content: Mapping[str, Any], whole: Mapping[str, Any]) -> Choice:
    """Read a choice of `whole`: a completion, a chat, or an event of the stream of either."""
    told = content.get("message") or content.get("delta")
    text = content.get("text") if told is None else told.get("content")
    return Choice.model_validate({**content, "text": text or "", "neuron_set": whole.get("neuron_set")})
