from __future__ import annotations

import asyncio
import errno
import json
import os
import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from api.errors import CLIENT_GONE
from api.http.json_body import check_values, parse_json
from jobs.storage.local import LocalStorage
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

HARMFUL = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"name": "\xff\xfe"}',
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "NaN": b'{"seed": NaN}',
    "Infinity": b'{"interventions": {"factors": [Infinity]}}',
    "1e999": b'{"seed": 1e999}',
    "a huge number": b'{"seed": ' + b"9" * 400 + b"}",
    "a number of 50,000 digits": b'{"seed": ' + b"9" * 50_000 + b"}",
    "a lone surrogate": b'{"name": "\\ud800"}',
    "a lone surrogate as a key": b'{"\\ud800": 1}',
    "a lone surrogate deep down": b'{"tasks": [{"name": ["\\udfff"]}]}',
    "a key twice": b'{"model": "tiny", "model": "other"}',
    "deep lists": b"[" * 40_000 + b"]" * 40_000,
    "deep objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "minus Infinity": b'{"max_tokens": -Infinity, "prompt": "x", "model": "tiny"}',
    "1e999 as a temperature": b'{"model": "tiny", "prompt": "x", "temperature": 1e999}',
    "a lone surrogate as a prompt": b'{"model": "tiny", "prompt": "\\udc00"}',
    "a lone surrogate as a message": b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud83d"}]}',
    "a key twice, deep down": b'{"model": "tiny", "intervention": {"op": "scale", "op": "set"}}',
    "depth just too much": b'{"name": ' + b"[" * 40 + b"]" * 40 + b"}",
    "an open string": b'{"name": "',
    "a null byte": b'{"na\x00me": 1}',
}


async def test_many_token_ids_are_checked_about_as_fast_as_they_are_read() -> None:
    body = json.dumps({"tokens": [5] * 300_000}).encode()
    started = time.process_time()
    json.loads(body)
    read = time.process_time() - started
    parse_json(body)
    assert time.process_time() - started < 15 * read
    with pytest.raises(InvalidRequest, match="64 bits") as refused:
        parse_json(json.dumps({"tokens": [5, 6, 2**65]}).encode())
    assert refused.value.param == "tokens.2"


def test_checking_a_body_takes_no_memory_for_each_of_its_values() -> None:
    values: list[object] = [[] for _ in range(100_000)]
    tracemalloc.start()
    check_values(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(values), "less than a byte for each; other threads allocate too"


def test_every_value_and_key_of_a_body_is_checked() -> None:
    for body, param in (
        ([[1], [], [1.5, [float("inf")]]], "2.1.0"),
        ({"a": [{}, {"b": "\ud800"}]}, "a.1.b"),
        ({"a": {"b": [], "\ud800": 1}}, "a"),
        ({"a": {2**65: 1}}, "a"),
        ({"a": [[[]], [[]], 2**65]}, "a.2"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            check_values(body)
        assert refused.value.param == param


def test_a_number_of_thousands_of_digits_is_refused_in_plain_words() -> None:
    with pytest.raises(InvalidRequest, match=r"an integer of thousands of digits; write a smaller one$"):
        parse_json(b'{"seed": ' + b"9" * 5_000 + b"}")


async def test_a_body_has_at_most_32_levels() -> None:
    def nested(levels: int, value: str) -> bytes:
        return ("[" * levels + value + "]" * levels).encode()

    for value in ("1", "[]", '"a"'):
        parse_json(nested(32, value))
        with pytest.raises(InvalidRequest, match="nested deeper than 32 levels"):
            parse_json(nested(33, value))


def assert_shape(body: dict[str, Any]) -> None:
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    assert isinstance(body["error"]["code"], str)


@pytest.mark.parametrize("path", ["/v1/sweeps", "/v1/neuron-sets", "/v1/completions", "/v1/chat/completions"])
async def test_no_body_makes_the_server_fail(installation: Installation, path: str) -> None:
    async with running_server(installation, working=False) as server:
        for name, body in HARMFUL.items():
            answer = await server.http.post(path, content=body, headers={"content-type": "application/json"})
            assert 400 <= answer.status_code < 500, (name, answer.text)
            assert_shape(answer.json())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/v1/nope", 404, "not_found"),
        ("DELETE", "/v1/sweeps", 405, "method_not_allowed"),
        ("PUT", "/v1/completions", 405, "method_not_allowed"),
        ("GET", "/v1/sweeps?limit=0", 422, "invalid_request"),
        ("GET", "/v1/sweeps?limit=many", 422, "invalid_request"),
        ("GET", "/v1/sweeps?limit=nan", 422, "invalid_request"),
        ("GET", "/v1/sweeps/%ed%a0%80", 404, "not_found"),
        ("GET", "/v1/sweeps/..%2f..%2fetc%2fpasswd/results", 404, "not_found"),
        ("GET", "/v1/neuron-sets/..%2f..", 404, "not_found"),
        ("GET", "/v1/neuron-sets/ns_nope", 404, "not_found"),
        ("GET", f"/v1/neuron-sets/{'n' * 300}", 404, "not_found"),
        ("GET", f"/v1/interventions/{'n' * 300}", 404, "not_found"),
        ("GET", "/v1/models/nope", 404, "not_found"),
    ],
)
async def test_every_error_has_the_same_format(
    installation: Installation, method: str, path: str, status: int, code: str
) -> None:
    async with running_server(installation, working=False) as server:
        answer = await server.http.request(method, path)
    assert answer.status_code == status
    assert_shape(answer.json())
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("GET", "/v1/completion", "no path /v1/completion; GET /v1/openapi.json lists its paths"),
        ("DELETE", "/v1/completions", "/v1/completions does not take DELETE, only POST"),
    ],
)
async def test_an_unknown_path_and_method_are_named_with_a_remedy(
    installation: Installation, method: str, path: str, says: str
) -> None:
    async with running_server(installation, working=False) as server:
        answer = await server.http.request(method, path)
        assert (await server.http.get("/v1/openapi.json")).status_code == 200
    assert says in answer.json()["error"]["message"]


async def test_an_unhandled_exception_is_answered_by_500_without_details(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_server(installation, working=False) as server:

        def broken(*_args: object, **_more: object) -> None:
            raise ZeroDivisionError("a secret")

        server.installation.store.list_sweeps = broken  # type: ignore[assignment, method-assign]
        answer = await server.http.get("/v1/sweeps")
    assert answer.status_code == 500
    assert_shape(answer.json())
    assert "secret" not in answer.text
    assert caplog.text


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        (errno.ENOSPC, 503, "a disk of the server is full"),
        (errno.EROFS, 503, "cannot write to one of its folders (Read-only file system)"),
        (errno.EMFILE, 503, "cannot open another file now (Too many open files)"),
        (errno.ENOENT, 500, "internal error"),
    ],
)
async def test_a_disk_that_refuses_a_write_is_answered_by_503(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, number: int, status: int, message: str
) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(number, os.strerror(number), "/secret/folder")

    monkeypatch.setattr(LocalStorage, "publish_new", refuse)
    preset = {"name": "fr", "intervention": {"languages": ["fr"], "op": "scale", "factor": 3}}
    async with running_server(installation, working=False) as server:
        answer = await server.http.post("/v1/interventions", json=preset)
    assert_shape(answer.json())
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, "unavailable" if status == 503 else "internal_error")
    assert message in error["message"]
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("reason", "status", "message"),
    [
        ("can't start new thread", 503, "no further thread or process can be started on the server; raise the limit"),
        ("dictionary changed size during iteration", 500, "internal error"),
    ],
)
async def test_a_thread_that_cannot_be_started_is_answered_by_503(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, reason: str, status: int, message: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(reason)

    async with running_server(installation, working=False) as server:
        monkeypatch.setattr(asyncio, "to_thread", fail)
        answer = await server.http.get("/v1/sweeps")
        monkeypatch.undo()
    assert_shape(answer.json())
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/v1/completions", "application/json"), ("/v1/files", "multipart/form-data; boundary=B")],
)
async def test_a_client_that_goes_while_it_sends_its_body_is_no_failure_of_the_server(
    installation: Installation, caplog: pytest.LogCaptureFixture, path: str, content_type: str
) -> None:
    begun = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{"custom_id"'
    sent: list[Any] = []
    received = [{"type": "http.request", "body": begun, "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return received.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", content_type.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "http_version": "1.1",
    }
    async with running_server(installation, working=False) as server:
        await server.app(scope, receive, send)
        metrics = (await server.http.get("/metrics")).text
    assert sent[0]["status"] == CLIENT_GONE
    assert "unhandled" not in caplog.text
    assert f'route="{path}",status="499"' in metrics


@pytest.fixture
def big() -> bytes:
    return b'{"name": "' + b"x" * 200_000 + b'"}'


async def test_a_body_over_the_limit_is_refused_by_its_length(installation: Installation, big: bytes) -> None:
    async with running_server(installation, working=False) as server:
        await assert_too_large(server, big)


async def test_a_chunked_body_over_the_limit_is_refused_as_it_comes_in(installation: Installation, big: bytes) -> None:
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        for start in range(0, len(big), 10_000):
            taken += 1
            yield big[start : start + 10_000]

    async with running_server(installation, working=False) as server:
        await assert_too_large(server, chunks())
    assert taken < 15, "the rest is not read"


async def assert_too_large(server: Server, content: Any) -> None:
    answer = await server.http.post("/v1/sweeps", content=content)
    assert answer.status_code == 413
    assert_shape(answer.json())
    assert answer.json()["error"]["code"] == "body_too_large"


async def test_a_content_length_that_is_not_a_number_is_refused(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        answer = await server.http.post("/v1/sweeps", content=b"{}", headers={"content-length": "-5"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"' + b"k" * 90_000 + b'": 1}',
        b'{"model": ["' + b"k" * 90_000 + b'"]}',
        b'{"' + b"k" * 45_000 + b'": 1, "' + b"k" * 45_000 + b'": 2}',
        b'{"model": "' + b"k" * 90_000 + b'"}',
    ],
)
async def test_errors_shorten_long_values(installation: Installation, body: bytes) -> None:
    async with running_server(installation, working=False) as server:
        answer = await server.http.post("/v1/sweeps", content=body)
    assert answer.status_code == 422
    assert len(answer.content) < 6_000


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"/v1/sweeps?{'q' * 40_000}=1", {}, 422),
        ("/v1/sweeps/sweep_1/summary", {"Accept": "text/" + "x" * 40_000}, 406),
        ("/v1/sweeps", {"Host": "h" * 40_000}, 403),
        ("/v1/sweeps", {"Origin": f"https://{'o' * 40_000}"}, 403),
        (f"/v1/models/{'m' * 40_000}", {}, 404),
    ],
    ids=["query", "Accept", "Host", "Origin", "path"],
)
async def test_errors_shorten_long_paths_and_headers(
    installation: Installation, path: str, headers: dict[str, str], status: int
) -> None:
    async with running_server(installation, working=False) as server:
        answer = await server.http.get(path, headers=headers)
    assert answer.status_code == status
    assert_shape(answer.json())
    assert len(answer.content) < 1000


@pytest.mark.parametrize(
    "body",
    [
        b'{"' + b"k" * 50_000 + b'": [' + b",".join([b"1"] * 20_000) + b"]}",
        b"{" + b",".join(b'"%d":1' % number for number in range(9_000)) + b',"8999":1}',
        b'{"model": "tiny", "neurons": {"fr": {"0": [' + b",".join([b"5"] * 40_000) + b"]}}}",
    ],
    ids=["a long key above many values", "many keys, the last twice", "one neuron very often"],
)
async def test_no_small_body_takes_long(installation: Installation, body: bytes) -> None:
    async with running_server(installation, working=False) as server:
        begun = time.process_time()
        answer = await server.http.post("/v1/neuron-sets", content=body)
        assert time.process_time() - begun < 5.0, "what is quadratic in the body takes minutes"
    assert answer.status_code == 422
