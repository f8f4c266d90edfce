"""A server's REST interface as Python calls.

Errors of the server come back as the exceptions it raised (see `ampsweep.errors`); one that cannot be reached raises
Unavailable. A Client may be used from several threads.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import httpx

from ampsweep.errors import AmpsweepError, InvalidRequest, Unavailable, from_code
from ampsweep.files import atomic_write
from ampsweep.replies import Completion, Event, Sweep
from ampsweep.spec_file import read_spec
from ampsweep.sse import server_events

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_URL = "http://127.0.0.1:8700"
API_KEY = "AMPSWEEP_API_KEY"
RECONNECT_SECONDS = 1.0
"""How long `events` waits before it takes up a broken stream again; it gives up after RECONNECTS in a row."""
RECONNECTS = 30


class Client:
    """Talks to the server at `url`. `timeout` (seconds) is for one answer, and for a pause within a stream.

    `api_key` is what the server asks for, by default what AMPSWEEP_API_KEY says.
    """

    def __init__(self, url: str = DEFAULT_URL, *, api_key: str | None = None, timeout: float = 60.0) -> None:
        self.url = url.rstrip("/")
        key = api_key or os.environ.get(API_KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=f"{self.url}/v1", timeout=timeout, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the server answers and every model on its list has an engine that is ready."""
        try:
            return self._http.get(f"{self.url}/readyz").is_success
        except httpx.TransportError:
            return False

    def submit(
        self, spec: Mapping[str, Any] | Path | str, *, idempotency_key: str | None = None, priority: int = 0
    ) -> Sweep:
        """Send a spec, given as a dict or as the path of a YAML or JSON file.

        The same `idempotency_key` with the same spec returns the sweep of the first call. Sweeps of higher `priority`
        (-100 to 100) go first. Raises InvalidRequest with `param` naming the field.
        """
        content = dict(spec) if isinstance(spec, Mapping) else read_spec(Path(spec))
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return Sweep.model_validate(
            self._json("POST", "/sweeps", json=content, headers=headers, params={"priority": priority})
        )

    def sweep(self, sweep_id: str) -> Sweep:
        """Return a sweep as it stands; NotFound if there is none."""
        return Sweep.model_validate(self._json("GET", f"/sweeps/{sweep_id}"))

    def sweeps(self) -> Iterator[Sweep]:
        """Yield all sweeps, newest first."""
        return map(Sweep.model_validate, self._pages("/sweeps"))

    def cells(self, sweep_id: str) -> Iterator[dict[str, Any]]:
        """Yield a sweep's cells in the plan's order, each with its `state`, `attempts` and `error`."""
        return self._pages(f"/sweeps/{sweep_id}/cells")

    def cancel(self, sweep_id: str) -> Sweep:
        """Ask for a sweep to stop; Conflict if it has ended."""
        return Sweep.model_validate(self._json("POST", f"/sweeps/{sweep_id}/cancel"))

    def pause(self, sweep_id: str) -> Sweep:
        """Begin no more cells of a sweep; Conflict unless it is in progress."""
        return Sweep.model_validate(self._json("POST", f"/sweeps/{sweep_id}/pause"))

    def resume(self, sweep_id: str) -> Sweep:
        """Let a paused sweep go on; Conflict unless it is paused."""
        return Sweep.model_validate(self._json("POST", f"/sweeps/{sweep_id}/resume"))

    def events(self, sweep_id: str, *, after: int = 0) -> Generator[Event, None, None]:
        """Yield the events after the id `after`, past ones first, until the sweep has ended.

        A broken connection is taken up again where it broke: no event is lost and none comes twice.
        """
        ended = self.sweep(sweep_id).ended
        failures = 0
        while True:
            try:
                for event in self._event_stream(sweep_id, after):
                    after, failures = event.id, 0
                    yield event
                if ended:  # only a stream that began after the end is sure to have held everything
                    return
                ended = self.sweep(sweep_id).ended
            except Unavailable:
                failures += 1
                if failures > RECONNECTS:
                    raise
            if failures or not ended:
                time.sleep(RECONNECT_SECONDS)

    def watch(self, sweep_id: str, *, interval: float = 0.25) -> Generator[Sweep, None, None]:
        """Yield the sweep now, after its events (at most once in `interval` seconds), and once it has ended."""
        yield self.sweep(sweep_id)
        shown = time.monotonic()
        for _ in self.events(sweep_id):
            if time.monotonic() - shown >= interval:
                yield self.sweep(sweep_id)
                shown = time.monotonic()
        yield self.sweep(sweep_id)

    def results(self, sweep_id: str) -> pa.Table:
        """Return all samples of a sweep as one table. For more than fits in memory use `download`."""
        import pyarrow.parquet as pq

        with tempfile.TemporaryDirectory() as folder:
            return pq.read_table(self.download(sweep_id, Path(folder) / "results.parquet"))

    def download(self, sweep_id: str, path: Path | str) -> Path:
        """Write the Parquet of a sweep's samples to `path`, whole or not at all, and return the path."""
        return self._download(f"/sweeps/{sweep_id}/results", Path(path))

    def download_summary(self, sweep_id: str, path: Path | str) -> Path:
        """Write the Parquet of a sweep's summary to `path`, whole or not at all, and return the path."""
        return self._download(f"/sweeps/{sweep_id}/summary", Path(path), params={"format": "parquet"})

    def summary(self, sweep_id: str) -> dict[str, Any]:
        """Return the metrics of a finished sweep: `rows`, one a cell, and `best_factors`, one a target language."""
        return self._json("GET", f"/sweeps/{sweep_id}/summary", params={"format": "json"})

    def models(self) -> list[dict[str, Any]]:
        """Return the models the server offers."""
        return list(self._pages("/models"))

    def neuron_sets(self) -> list[dict[str, Any]]:
        """Return the neuron sets the server has, oldest first; `languages` says how many neurons each language has."""
        return list(self._pages("/neuron-sets"))

    def complete(
        self, model: str, prompt: str, *, intervention: Mapping[str, Any] | None = None, **options: Any
    ) -> Completion:
        """Continue a prompt, steered by `intervention` or not.

        `options` are those of OpenAI's completions (max_tokens, temperature, top_p, seed, stop) and `neurons`, the id
        of a neuron set (default: the newest of the model).
        """
        body = _completion_body(model, prompt, intervention, options, stream=False)
        return _completion(self._json("POST", "/completions", json=body))

    def stream(
        self, model: str, prompt: str, *, intervention: Mapping[str, Any] | None = None, **options: Any
    ) -> Generator[Completion, None, None]:
        """Continue a prompt as `complete` does, and yield the text piece by piece. Closing the iterator stops it."""
        body = _completion_body(model, prompt, intervention, options, stream=True)
        with self._translated(), self._http.stream("POST", "/completions", json=body) as response:
            self._check(response)
            for event in server_events(response.iter_lines()):
                if event.data == "[DONE]":
                    return
                yield _completion(_raise_error(json.loads(event.data)))

    def _download(self, route: str, target: Path, **arguments: Any) -> Path:
        stream = self._http.stream("GET", route, **arguments)
        with atomic_write(target) as temporary, temporary.open("wb") as file, self._translated(), stream as response:
            self._check(response)
            for block in response.iter_bytes():
                file.write(block)
        return target

    def _event_stream(self, sweep_id: str, after: int) -> Iterator[Event]:
        headers = {"Last-Event-ID": str(after)} if after else {}
        with self._translated(), self._http.stream("GET", f"/sweeps/{sweep_id}/events", headers=headers) as response:
            self._check(response)
            for event in server_events(response.iter_lines()):
                yield Event(id=int(event.id), type=event.type, data=json.loads(event.data))

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        params: dict[str, str] = {}
        while True:
            page = self._json("GET", path, params=params)
            yield from page["data"]
            if not page.get("has_more"):
                return
            params = {"after": page["last_id"]}

    def _json(self, method: Literal["GET", "POST"], path: str, **arguments: Any) -> dict[str, Any]:
        with self._translated():
            response = self._http.request(method, path, **arguments)
        self._check(response)
        content: dict[str, Any] = response.json()
        return content

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise Unavailable(f"the server at {self.url} did not answer in time") from error
        except httpx.TransportError as error:
            raise Unavailable(f"no connection to a server at {self.url}: {error}") from error
        except httpx.InvalidURL as error:
            raise InvalidRequest(f"{self.url!r} is not a URL: {error}", param="url") from error

    @staticmethod
    def _check(response: httpx.Response) -> None:
        if response.is_success:
            return
        response.read()
        try:
            content = response.json()
        except ValueError:
            content = {}
        if isinstance(content, dict):
            _raise_error(content)
        raise AmpsweepError(f"the server answered {response.status_code} {response.reason_phrase} to {response.url}")


def _raise_error(content: dict[str, Any]) -> dict[str, Any]:
    error = content.get("error")
    if isinstance(error, dict):
        raise from_code(str(error.get("code")), str(error.get("message")), param=error.get("param"))
    return content


def _completion_body(
    model: str, prompt: str, intervention: Mapping[str, Any] | None, options: Mapping[str, Any], *, stream: bool
) -> dict[str, Any]:
    return {"model": model, "prompt": prompt, "intervention": intervention, "stream": stream, **options}


def _completion(content: Mapping[str, Any]) -> Completion:
    return Completion.model_validate(content["choices"][0])
