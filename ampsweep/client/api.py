"""The methods of both clients, as coroutines: builds requests to the REST API and parses the responses.

Does not know whether an event loop runs it (see `ampsweep.client.transport`), nor when a request is retried.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
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
    Model,
    NeuronSet,
    Summary,
    Sweep,
)
from ampsweep.client.session import Session, get
from ampsweep.client.tables import TableForm
from ampsweep.client.transport import Request
from ampsweep.documents import read_spec
from ampsweep.domain.prompt import ChatMessage
from ampsweep.errors import AmpsweepError, EngineFailed, Unavailable

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from ampsweep.domain.intervention import Intervention

RECONNECT_SECONDS = 1.0
"""Seconds that `events` waits before it resumes a broken stream."""
RECONNECTS = 30
"""Failed attempts in a row after which `events` gives up."""


class Api:
    """The REST API of a server. Errors of the server are raised as the exceptions of `ampsweep.errors`."""

    def __init__(self, session: Session) -> None:
        self.url = session.url
        self._session = session

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def ready(self) -> bool:
        """Return whether the server answers and every model it offers has a ready engine."""
        try:
            await self._session.json_once(get(f"{self.url}/readyz"))
        except AmpsweepError:
            return False
        return True

    async def submit(
        self, spec: Mapping[str, Any] | Path | str, *, idempotency_key: str | None = None, priority: int = 0
    ) -> Sweep:
        """Submit a sweep and return it.

        Args:
            spec: The sweep's spec: a dict, or the path of a YAML or JSON file.
            idempotency_key: A second call with the same key and the same spec returns the sweep of the first call.
                By default each call has a random key, so that a retried request creates no second sweep.
            priority: -100 to 100. Sweeps of higher priority run first.

        Raises:
            InvalidRequest: A field of the spec is wrong; `param` names it.
        """
        content = dict(spec) if isinstance(spec, Mapping) else read_spec(Path(spec))
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        return _sweep(
            await self._session.json(
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
        """Return the current state of a sweep; raise NotFound if there is no such sweep."""
        return _sweep(await self._session.json(get(f"/sweeps/{_id(sweep_id)}")))

    async def sweeps(self) -> AsyncGenerator[Sweep]:
        """Yield all sweeps, newest first."""
        async with aclosing(self._session.pages("/sweeps")) as items:
            async for item in items:
                yield _sweep(item)

    async def cells(self, sweep_id: str, *, failures: bool = False) -> AsyncGenerator[Cell]:
        """Yield the cells of a sweep in plan order; with `failures` only those that failed or have failed samples."""
        params = {"failures": "true"} if failures else {}
        async with aclosing(self._session.pages(f"/sweeps/{_id(sweep_id)}/cells", **params)) as items:
            async for item in items:
                yield cast("Cell", item)

    async def cancel(self, sweep_id: str) -> Sweep:
        """Cancel a sweep; raise Conflict if it has ended."""
        return _sweep(await self._session.json(_post(f"/sweeps/{_id(sweep_id)}/cancel")))

    async def pause(self, sweep_id: str) -> Sweep:
        """Pause a sweep: start no more of its cells; raise Conflict unless it is in progress."""
        return _sweep(await self._session.json(_post(f"/sweeps/{_id(sweep_id)}/pause")))

    async def resume(self, sweep_id: str) -> Sweep:
        """Resume a paused sweep; raise Conflict unless it is paused."""
        return _sweep(await self._session.json(_post(f"/sweeps/{_id(sweep_id)}/resume")))

    async def events(self, sweep_id: str, *, after: int = 0) -> AsyncGenerator[Event]:
        """Yield the events of a sweep after the id `after`, past ones first, until the sweep has ended.

        Resumes after a broken connection: no event is lost or repeated.
        """
        ended = (await self.sweep(sweep_id)).ended
        failures = 0
        while True:
            try:
                async with aclosing(self._event_stream(sweep_id, after)) as events:
                    async for event in events:
                        after, failures = event.id, 0
                        yield event
                if ended:  # only a stream opened after the end is certain to hold all events
                    return
                ended = (await self.sweep(sweep_id)).ended
            except Unavailable:
                failures += 1
                if failures > RECONNECTS:
                    raise
            if failures or not ended:
                await self._session.sleep(RECONNECT_SECONDS)

    async def watch(self, sweep_id: str, *, interval: float = 0.25) -> AsyncGenerator[Sweep]:
        """Yield the sweep now, after new events (at most once every `interval` seconds) and when it has ended."""
        yield await self.sweep(sweep_id)
        shown = time.monotonic()
        async with aclosing(self.events(sweep_id)) as events:
            async for _ in events:
                if time.monotonic() - shown >= interval:
                    yield await self.sweep(sweep_id)
                    shown = time.monotonic()
        yield await self.sweep(sweep_id)

    async def wait(self, sweep_id: str) -> Sweep:
        """Wait until a sweep has ended and return it."""
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
        """Return all samples of a sweep as one table. Use `download` if they do not fit in memory."""
        return await self._session.table(f"/sweeps/{_id(sweep_id)}/results", as_, **_partial(partial))

    async def download(self, sweep_id: str, path: Path | str, *, partial: bool = False) -> Path:
        """Download the samples of a sweep as a Parquet file, written atomically, and return its path.

        With `partial` the sweep need not have ended: the file holds the cells completed so far, and its metadata says
        so (`ampsweep.partial`).
        """
        request = get(f"/sweeps/{_id(sweep_id)}/results", **_partial(partial))
        return await self._session.download(request, Path(path))

    async def download_summary(self, sweep_id: str, path: Path | str, *, partial: bool = False) -> Path:
        """Download the summary of a sweep as a Parquet file, as `download` does with the samples."""
        request = get(f"/sweeps/{_id(sweep_id)}/summary", format="parquet", **_partial(partial))
        return await self._session.download(request, Path(path))

    @overload
    async def summary(self, sweep_id: str, *, as_: None = None, partial: bool = False) -> Summary: ...
    @overload
    async def summary(self, sweep_id: str, *, as_: Literal["arrow"], partial: bool = False) -> pa.Table: ...
    @overload
    async def summary(self, sweep_id: str, *, as_: Literal["pandas"], partial: bool = False) -> pd.DataFrame: ...
    @overload
    async def summary(self, sweep_id: str, *, as_: Literal["polars"], partial: bool = False) -> pl.DataFrame: ...
    async def summary(self, sweep_id: str, *, as_: TableForm | None = None, partial: bool = False) -> Any:
        """Return the metrics of a sweep: as a dict of rows and best factors, or the rows as a table."""
        path = f"/sweeps/{_id(sweep_id)}/summary"
        if as_ is None:
            return await self._session.json(get(path, format="json", **_partial(partial)))
        return await self._session.table(path, as_, format="parquet", **_partial(partial))

    async def models(self) -> list[Model]:
        """Return the models the server offers."""
        return cast("list[Model]", [item async for item in self._session.pages("/models")])

    async def engines(self) -> list[Engine]:
        """Return the engines of the server and their states."""
        return cast("list[Engine]", [item async for item in self._session.pages("/engines")])

    async def retry_engines(self, model: str) -> list[Engine]:
        """Restart now those engines of a model that have failed or wait for a restart; return the model's engines.

        Needs a key with the scope `admin`.

        Raises:
            NotFound: The model has no engine.
            Conflict: All its engines are ready.
        """
        body = await self._session.json(_post(f"/engines/{quote(model) or '-'}/retry"))
        return cast("list[Engine]", body["data"])

    async def neuron_sets(self, *, model: str | None = None) -> list[NeuronSet]:
        """Return the neuron sets of the server, oldest first; `languages` holds the number of neurons of each language.

        With `model`, return only those that can steer it; raise UnknownName if the server does not offer that model.
        """
        params = {} if model is None else {"model": model}
        return cast("list[NeuronSet]", [item async for item in self._session.pages("/neuron-sets", **params)])

    async def neuron_set(self, neuron_set_id: str, *, neurons: bool = False) -> NeuronSet:
        """Return a neuron set, with its neurons if `neurons` is true; raise NotFound if there is no such set."""
        params = {"include": "neurons"} if neurons else {}
        return cast("NeuronSet", await self._session.json(get(f"/neuron-sets/{_id(neuron_set_id)}", **params)))

    async def create_neuron_set(self, model: str, neurons: Mapping[str, Any]) -> NeuronSet:
        """Import a neuron set, or start its identification, and return it.

        Creating the same set twice returns the same set.

        Args:
            model: The model whose neurons they are.
            neurons: Either the neurons, {language: {layer: [index, ...]}}, or how to identify them, as in `neurons` of
                a spec. A set being identified is `in_progress`; `wait_for_neurons` waits for it.
        """
        body = {"model": model, "neurons": dict(neurons)}
        return cast(
            "NeuronSet",
            await self._session.json(Request(method="POST", path="/neuron-sets", json=body, repeatable=True)),
        )

    async def default_neuron_set(self, model: str) -> DefaultNeuronSet:
        """Return the neuron set used for requests to a model that name none: its default, or the only set it has."""
        return cast("DefaultNeuronSet", await self._session.json(get(_default_of(model))))

    async def set_default_neuron_set(self, model: str, neuron_set_id: str) -> DefaultNeuronSet:
        """Set the default neuron set of a model. Needs a key with the scope `admin`."""
        body = {"neuron_set": neuron_set_id}
        request = Request(method="PUT", path=_default_of(model), json=body, repeatable=True)
        return cast("DefaultNeuronSet", await self._session.json(request))

    async def clear_default_neuron_set(self, model: str) -> DefaultNeuronSet:
        """Clear the default neuron set of a model and return what applies then. Needs a key with the scope `admin`."""
        request = Request(method="DELETE", path=_default_of(model), repeatable=True)
        return cast("DefaultNeuronSet", await self._session.json(request))

    async def wait_for_neurons(self, neuron_set_id: str, *, interval: float = 1.0) -> NeuronSet:
        """Poll every `interval` seconds until a neuron set is ready and return it; EngineFailed if that fails."""
        while (neuron_set := await self.neuron_set(neuron_set_id))["status"] == "in_progress":
            await self._session.sleep(interval)
        if neuron_set["status"] == "failed":
            raise EngineFailed(f"{neuron_set_id} could not be identified: {neuron_set.get('error')}")
        return neuron_set

    async def complete(
        self,
        /,
        model: str,
        prompt: str,
        *,
        intervention: Intervention | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Completion:
        """Complete a prompt.

        Args:
            model: The name of a model that the server offers.
            prompt: The text to continue.
            intervention: What steers generation, an `ampsweep.domain.intervention.Intervention` or its JSON form. None
                leaves the model unsteered.
            options: Other fields of `POST /v1/completions`: those of OpenAI (max_tokens, temperature, top_p, n, seed,
                stop, logprobs), and `neurons`, the id of a neuron set (by default the model's default or only set).
        """
        body = {"model": model, "prompt": prompt, "intervention": _json_form(intervention), **options}
        return _completion(await self._session.json(_generation("/completions", body)))

    async def stream(
        self,
        /,
        model: str,
        prompt: str,
        *,
        intervention: Intervention | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncGenerator[Choice]:
        """Complete a prompt as `complete` does, and yield the text in pieces. Closing the iterator stops generation."""
        body = {"model": model, "prompt": prompt, "intervention": _json_form(intervention), **options}
        async with aclosing(self._pieces("/completions", body)) as pieces:
            async for piece in pieces:
                yield piece

    async def chat(
        self,
        /,
        model: str,
        messages: Sequence[ChatMessage | Mapping[str, Any]],
        *,
        intervention: Intervention | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Completion:
        """Answer a chat.

        Args:
            model: The name of a model that the server offers.
            messages: The messages, each a `ChatMessage` or an object with `role` and `content`.
            intervention: What steers generation, an `ampsweep.domain.intervention.Intervention` or its JSON form. None
                leaves the model unsteered.
            options: As in `complete`, with the names of OpenAI's chat completions.
        """
        body = {"model": model, "messages": _messages(messages), "intervention": _json_form(intervention), **options}
        return _completion(await self._session.json(_generation("/chat/completions", body)))

    async def stream_chat(
        self,
        /,
        model: str,
        messages: Sequence[ChatMessage | Mapping[str, Any]],
        *,
        intervention: Intervention | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncGenerator[Choice]:
        """Answer a chat as `chat` does, and yield the text in pieces. Closing the iterator stops generation."""
        body = {"model": model, "messages": _messages(messages), "intervention": _json_form(intervention), **options}
        async with aclosing(self._pieces("/chat/completions", body)) as pieces:
            async for piece in pieces:
                yield piece

    async def _pieces(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Choice]:
        async with aclosing(self._session.server_events(_generation(path, {**body, "stream": True}))) as events:
            async for event in events:
                if event.data == "[DONE]":
                    return
                piece = raise_error(json.loads(event.data))
                for choice in piece["choices"]:
                    yield _choice(choice, piece)

    async def _event_stream(self, sweep_id: str, after: int) -> AsyncGenerator[Event]:
        headers = {"Last-Event-ID": str(after)} if after else {}
        request = Request(method="GET", path=f"/sweeps/{_id(sweep_id)}/events", headers=headers, repeatable=True)
        async with aclosing(self._session.server_events(request)) as events:
            async for event in events:
                yield Event(id=int(event.id), type=event.type, data=json.loads(event.data))


def _id(value: str) -> str:
    """Return an id, escaped, as a segment of a path."""
    return quote(value, safe="") or "-"


def _json_form(intervention: Intervention | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return intervention if intervention is None or isinstance(intervention, Mapping) else intervention.to_dict()


def _messages(messages: Sequence[ChatMessage | Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [asdict(message) if isinstance(message, ChatMessage) else message for message in messages]


def _partial(partial: bool) -> dict[str, str]:
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
    return Completion.model_validate(
        {"choices": choices, "usage": content["usage"], "neuron_set": content.get("neuron_set")}
    )


def _choice(content: Mapping[str, Any], response: Mapping[str, Any]) -> Choice:
    """Parse a choice of a response: a completion, a chat completion, or a chunk of the stream of either."""
    message = content.get("message") or content.get("delta")
    text = content.get("text") if message is None else message.get("content")
    return Choice.model_validate({**content, "text": text or "", "neuron_set": response.get("neuron_set")})
