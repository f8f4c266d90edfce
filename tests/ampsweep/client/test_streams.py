"""Both clients on bad connections, with a small server that breaks its streams on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ampsweep import Client
from ampsweep.client.http.retries import Retries
from ampsweep.errors import (
    AmpsweepError,
    ConnectionLost,
    EngineFailed,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unavailable,
)
from tests.ampsweep.client.both_clients import KINDS, opened

EVENTS = 6
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(params=KINDS)
def serve(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Callable[[Answer], Client]]:
    """Return a function that starts a server which answers every request with one function."""
    monkeypatch.setattr("ampsweep.client.sweeps.RECONNECT_SECONDS", 0.0)
    monkeypatch.setattr("ampsweep.client.clients.Retries", partial(Retries, first=0.0))
    running: list[tuple[ThreadingHTTPServer, Thread]] = []
    clients = ExitStack()

    def start(answer: Answer) -> Client:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def do_POST(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        url = f"http://127.0.0.1:{server.server_port}"
        return clients.enter_context(opened(request.param, url, timeout=10))

    yield start
    clients.close()
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


def _head(
    request: BaseHTTPRequestHandler,
    kind: str,
    length: int | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> None:
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Type", kind)
    if length is not None:
        request.send_header("Content-Length", str(length))
    request.end_headers()


def _json(
    request: BaseHTTPRequestHandler, content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> None:
    body = json.dumps(content).encode()
    _head(request, "application/json", len(body), status, headers)
    request.wfile.write(body)


def _sweep(status: str) -> dict[str, object]:
    counts = {"total": 1, "completed": 1, "failed": 0}
    return {"id": "sweep_1", "status": status, "request_counts": counts, "created_at": 0.0}


def test_a_broken_event_stream_is_resumed(serve: Callable[[Answer], Client]) -> None:
    last_event_ids: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        if not request.path.endswith("/events"):
            _json(request, _sweep("completed" if len(last_event_ids) >= 3 else "in_progress"))
            return
        last_event_ids.append(request.headers["Last-Event-ID"])
        first = int(last_event_ids[-1] or 0) + 1
        _head(request, "text/event-stream", 10_000)  # more than is sent: the stream breaks off
        for number in range(first, min(first + 2, EVENTS + 1)):
            request.wfile.write(f'id: {number}\nevent: cell.completed\ndata: {{"n": {number}}}\n\n'.encode())
        request.wfile.write(b"id: 99\ndata: half an ev")

    client = serve(answer)
    events = client.events("sweep_1")
    assert [next(events).id for _ in range(EVENTS)] == list(range(1, EVENTS + 1))
    assert last_event_ids == [None, "2", "4"]
    events.close()


def test_events_end_only_with_a_stream_that_began_after_the_end(serve: Callable[[Answer], Client]) -> None:
    statuses = iter(["in_progress", "completed"])
    streams: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        if not request.path.endswith("/events"):
            _json(request, _sweep(next(statuses)))
            return
        streams.append(request.headers["Last-Event-ID"])
        body = f"id: {len(streams)}\nevent: e\ndata: {{}}\n\n".encode()
        _head(request, "text/event-stream", len(body))
        request.wfile.write(body)

    assert [event.id for event in serve(answer).events("sweep_1")] == [1, 2]
    assert streams == [None, "1"]


def test_a_stream_that_never_works_is_given_up(
    serve: Callable[[Answer], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ampsweep.client.sweeps.RECONNECTS", 3)
    tried: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        if not request.path.endswith("/events"):
            _json(request, _sweep("in_progress"))
            return
        tried.append(request.path)
        _head(request, "text/event-stream", 1)

    with pytest.raises(Unavailable):
        list(serve(answer).events("sweep_1"))
    assert len(tried) == 4


def test_a_download_that_breaks_off_leaves_no_file(serve: Callable[[Answer], Client], tmp_path: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        _head(request, "application/octet-stream", 1000)
        request.wfile.write(b"PAR1")

    with pytest.raises(Unavailable):
        serve(answer).download("sweep_1", tmp_path / "samples.parquet")
    assert list(tmp_path.iterdir()) == []


def test_an_error_within_a_stream_is_raised(serve: Callable[[Answer], Client]) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        piece = {"choices": [{"text": "Par", "finish_reason": None}]}
        error = {
            "error": {"message": "the engine died", "code": "engine_failed", "type": "server_error", "param": None}
        }
        body = "".join(f"data: {json.dumps(data)}\n\n" for data in (piece, error)).encode()
        _head(request, "text/event-stream", len(body))
        request.wfile.write(body)

    pieces = serve(answer).stream("atlas", "The capital of France is")
    assert next(pieces).text == "Par"
    with pytest.raises(EngineFailed, match="the engine died"):
        next(pieces)


def test_an_answer_that_is_not_ours_is_still_an_error(serve: Callable[[Answer], Client]) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        _head(request, "text/html", 4, status=507)
        request.wfile.write(b"oops")

    with pytest.raises(AmpsweepError, match="507"):
        serve(answer).models()


def test_another_kind_of_server_is_detected(serve: Callable[[Answer], Client]) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        _head(request, "text/html", 6)
        request.wfile.write(b"<html>")

    with pytest.raises(AmpsweepError, match="is not an ampsweep server"):
        serve(answer).models()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda client, _: client.results("sweep_1"), "a Parquet file"),
        (lambda client, folder: client.download("sweep_1", folder / "samples.parquet"), "a Parquet file"),
        (lambda client, _: list(client.stream("atlas", "The capital of France is")), "a stream of events"),
        (lambda client, _: client.complete("atlas", "The capital of France is"), "a JSON object"),
    ],
    ids=["table", "download", "stream", "json"],
)
@pytest.mark.parametrize("page", [b"<html>Sign in</html>", b"[" * 100_000], ids=["page", "nested"])
def test_the_page_of_a_proxy_is_no_answer(
    call: Callable[[Client, Path], object],
    expected: str,
    page: bytes,
    serve: Callable[[Answer], Client],
    tmp_path: Path,
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers["Content-Length"] or 0))
        _head(request, "text/html", len(page))
        request.wfile.write(page)

    with pytest.raises(AmpsweepError, match=f"is not an ampsweep server: its response is not {expected}; check the"):
        call(serve(answer), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_a_proxy_cuts_off_is_an_error(serve: Callable[[Answer], Client]) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        body = f"data: {json.dumps({'choices': [{'text': 'Par', 'finish_reason': None}]})}\n\n".encode()
        _head(request, "text/event-stream", len(body))
        request.wfile.write(body)

    pieces = serve(answer).stream("atlas", "The capital of France is")
    assert next(pieces).text == "Par"
    with pytest.raises(ConnectionLost, match="ended before the text"):
        next(pieces)


def test_a_redirect_names_where_it_leads(serve: Callable[[Answer], Client]) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        _head(request, "text/html", 0, 301, {"Location": "https://ampsweep.example/v1/models"})

    with pytest.raises(AmpsweepError, match=r"301 .*; it leads to https://ampsweep.example/v1/models: give the URL"):
        serve(answer).models()


def test_an_error_of_http_itself_keeps_its_status_and_code(serve: Callable[[Answer], Client]) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        _json(request, _error("body_too_large"), 413)

    with pytest.raises(AmpsweepError) as refused:
        serve(answer).models()
    assert (refused.value.status, refused.value.code) == (413, "body_too_large")
    assert refused.value.type == "invalid_request_error"


def test_a_submission_that_got_no_answer_is_sent_again_under_the_same_key(serve: Callable[[Answer], Client]) -> None:
    keys: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) % 3:
            request.close_connection = True  # the request was read, and nothing is said
            return
        _json(request, _sweep("in_progress"), 201)

    client = serve(answer)
    assert client.submit({"name": "a"}).id == client.submit({"name": "a"}).id == "sweep_1"
    assert keys[0]
    assert (keys[:3], keys[3:]) == ([keys[0]] * 3, [keys[3]] * 3)
    assert keys[0] != keys[3], "two calls are two sweeps"


@pytest.mark.parametrize(
    ("status", "code"), [(429, "rate_limited"), (503, "unavailable"), (409, "idempotency_running")]
)
def test_temporarily_rejected_requests_are_retried(status: int, code: str, serve: Callable[[Answer], Client]) -> None:
    requests: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        requests.append(request.path)
        if len(requests) < 3:
            _json(request, _error(code), status, {"Retry-After": "0"})
        else:
            _json(request, {"choices": [{"text": "Paris"}], "usage": USAGE})

    assert serve(answer).complete("atlas", "The capital of France is").text == "Paris"
    assert requests == ["/v1/completions"] * 3


def test_an_interrupted_completion_is_not_retried(serve: Callable[[Answer], Client]) -> None:
    requests: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        requests.append(request.path)
        _head(request, "application/json", 100)

    client = serve(answer)
    with pytest.raises(ConnectionLost):
        client.complete("atlas", "The capital of France is")
    with pytest.raises(ConnectionLost):
        client.cancel("sweep_1")
    assert requests == ["/v1/completions", "/v1/sweeps/sweep_1/cancel"]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "half an emoji: \ud83d"},
        {"prompt": "a", "temperature": float("nan")},
        {"prompt": "a", "stop": {"a", "b"}},
        {"prompt": "a", "logit_bias": {"5": object()}},
    ],
    ids=["surrogate", "NaN", "set", "object"],
)
def test_a_body_that_json_cannot_express_is_an_invalid_request(
    fields: dict[str, Any], serve: Callable[[Answer], Client]
) -> None:
    client = serve(lambda _request: pytest.fail("nothing is to be sent"))
    with pytest.raises(InvalidRequest, match=r"the request cannot be sent: .*; give values of JSON"):
        client.complete("atlas", **fields)
    with pytest.raises(InvalidRequest, match="the request cannot be sent"):
        list(client.stream("atlas", **fields))


@pytest.mark.parametrize("key", ["clé", "two\nlines"])
def test_a_key_that_no_header_can_have_is_an_invalid_request(key: str, serve: Callable[[Answer], Client]) -> None:
    client = serve(lambda _request: pytest.fail("nothing is to be sent"))
    with pytest.raises(InvalidRequest, match="cannot be sent"):
        client.submit({"name": "a"}, idempotency_key=key)


def test_a_response_that_cannot_be_decoded_is_asked_for_again(serve: Callable[[Answer], Client]) -> None:
    requests: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        requests.append(request.path)
        if len(requests) == 1:
            _json(request, _sweep("completed"), 200, {"Content-Encoding": "gzip"})
        else:
            _json(request, _sweep("completed"))

    assert serve(answer).sweep("sweep_1").id == "sweep_1"
    assert requests == ["/v1/sweeps/sweep_1"] * 2


@pytest.mark.parametrize(("sweep_id", "path"), [("..", "-"), (".", "-"), ("", "-"), ("a/../b", "a%2F..%2Fb")])
def test_an_id_never_leaves_its_place_in_the_path(sweep_id: str, path: str, serve: Callable[[Answer], Client]) -> None:
    requests: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        requests.append(request.path)
        _json(request, _error("not_found"), 404)

    client = serve(answer)
    for act in (client.sweep, client.cancel, client.default_neuron_set):
        with pytest.raises(NotFound):
            act(sweep_id)
    model = path if sweep_id != "a/../b" else "a/-/b"
    assert requests == [f"/v1/sweeps/{path}", f"/v1/sweeps/{path}/cancel", f"/v1/models/{model}/default-neuron-set"]


def test_waits_have_an_upper_limit(serve: Callable[[Answer], Client]) -> None:
    requests: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        requests.append(request.path)
        _json(request, _error("rate_limited"), 429, {"Retry-After": "3600"})

    with pytest.raises(RateLimited) as refused:
        serve(answer).models()
    assert (len(requests), refused.value.retry_after) == (1, 3600)


def _error(code: str) -> dict[str, object]:
    return {"error": {"message": "not now", "type": "invalid_request_error", "param": None, "code": code}}
