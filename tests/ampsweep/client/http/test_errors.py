"""URLs of servers are checked before anything is sent."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from ampsweep.cli.checks.server import server
from ampsweep.client.chat_endpoint import ChatEndpoint
from ampsweep.client.clients import AsyncClient, Client
from ampsweep.client.http.errors import check_url, translate_errors
from ampsweep.errors import InvalidRequest, NoConnection

WRONG = [
    "x",
    "//x",
    "http://",
    "ftp://a",
    "http://[",
    "http://[]",
    "http://\udce9",
    "http://127.0.0.1:99999999",
    "http://127.0.0.1:-1",
]


@pytest.mark.parametrize("url", WRONG)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    openers: tuple[Callable[[str], object], ...] = (Client, lambda text: ChatEndpoint(text, "atlas"))
    for opener in openers:
        with pytest.raises(InvalidRequest, match="is not the URL of a server; give one such as") as caught:
            opener(url)
        assert caught.value.param == "url"
    (finding,) = server(url)
    assert (finding.state, finding.remedy) == ("bad", "fix --server")


@pytest.mark.parametrize("url", ["http://localhost", "http://[::1]:8700", "https://gpu.example/ampsweep"])
def test_urls_with_a_host_are_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, 0])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(seconds: float) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidRequest, match="timeout must be a positive number of seconds") as caught:
            kind("http://localhost", timeout=seconds)
        assert caught.value.param == "timeout"


def test_a_client_may_wait_without_end() -> None:
    Client("http://localhost", timeout=None).close()


def test_a_certificate_that_is_not_trusted_comes_with_the_remedy() -> None:
    failed = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate")
    remedy = "self-signed certificate; name the certificate of its authority in SSL_CERT_FILE"
    with pytest.raises(NoConnection, match=remedy), translate_errors("https://gpu"):
        raise failed
