"""Proxies of the environment: which requests use them, and how errors name them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ampsweep.cli.checks.server import server as check_server
from ampsweep.errors import AmpsweepError, InvalidRequest, NoConnection
from ampsweep.proxies import proxy_of
from tests.ampsweep.client.both_clients import KINDS, opened

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """Serve one answer to everything; yields the address and the request lines that came, with their keys."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.path} {self.headers.get('Authorization')}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", seen
        finally:
            listening.shutdown()
            thread.join()


MODELS = json.dumps({"object": "list", "data": [{"id": "tiny"}]}).encode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_loopback_address_never_goes_through_a_proxy(
    kind: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(502, b"") as (proxy, seen), answering(200, MODELS) as (url, requests):
        monkeypatch.setenv(variable, proxy)
        with opened(kind, url, api_key="secret", retries=0) as client:
            assert [model["id"] for model in client.models()] == ["tiny"]
    assert seen == [], "the key never leaves this machine"
    assert requests == ["/v1/models Bearer secret"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_packages_are_missing_for_is_no_matter_on_a_loopback_address(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with answering(200, MODELS) as (url, _), opened(kind, url, retries=0) as client:
        assert [model["id"] for model in client.models()] == ["tiny"]


@pytest.mark.parametrize("kind", KINDS)
def test_elsewhere_the_error_names_the_proxy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:9")
    with opened(kind, "http://sweeps.example", retries=0) as client, pytest.raises(NoConnection) as caught:
        list(client.models())
    assert "through the proxy http://127.0.0.1:9 of the environment" in caught.value.message
    assert "NO_PROXY" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_of_a_proxy_is_reported_as_such(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(502, b"bad gateway") as (proxy, _):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with opened(kind, "http://sweeps.example", retries=0) as client, pytest.raises(AmpsweepError) as caught:
            list(client.models())
    assert caught.value.message.startswith("the server answered 502 Bad Gateway")
    assert f"through the proxy {proxy}" in caught.value.message


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "gopher://127.0.0.1:9"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_cannot_be_used_is_an_error_that_says_so(
    kind: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(InvalidRequest, match="cannot be used") as caught, opened(kind, "http://sweeps.example"):
        pass
    assert caught.value.param == "ALL_PROXY"


def test_doctor_reports_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    findings = check_server("http://sweeps.example")
    assert [(each.subject, each.state) for each in findings] == [("proxy", "note"), ("server", "bad")]
    assert NOWHERE in findings[0].detail


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "http://sweeps.example", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://sweeps.example", "http://p:3128"),
        ({"HTTP_PROXY": "p:3128"}, "http://sweeps.example", "http://p:3128"),
        ({"HTTP_PROXY": "http://u:w@p:3128"}, "http://sweeps.example", "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, "https://sweeps.example", None),
        ({"ALL_PROXY": "http://p:3128"}, "https://sweeps.example", "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128", "NO_PROXY": "sweeps.example"}, "http://sweeps.example", None),
        *(({"ALL_PROXY": "http://p"}, f"http://{host}:8700", None) for host in ("localhost", "127.0.0.9", "[::1]")),
    ],
)
def test_the_proxy_for_a_server_is_found(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(url) == proxy
