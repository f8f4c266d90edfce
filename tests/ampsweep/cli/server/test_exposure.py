"""An exposed server without protection is not started; the error says what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampsweep.cli.server.exposure import auth_policy, limits_of
from ampsweep.cli.server.settings import read_settings
from ampsweep.errors import InvalidRequest, Unauthenticated
from api.auth.api_keys import KeyFile, KeyScope
from api.auth.limits import Limits
from api.auth.principal import LOCAL

HERE = {"host": "localhost"}


@pytest.fixture
def key(tmp_path: Path) -> str:
    return KeyFile(tmp_path / "keys.json").create("ada", frozenset({KeyScope.READ}), now=0.0)[1]


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    (tmp_path / "some.pem").write_text("")
    return tmp_path / "some.pem"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gpu.example"])
def test_beyond_the_loopback_interface_keys_need_tls(tmp_path: Path, key: str, host: str) -> None:
    assert key
    with pytest.raises(InvalidRequest, match="--behind-tls-proxy") as refused:
        auth_policy(read_settings(home=tmp_path, host=host))
    assert refused.value.param == "host"


@pytest.mark.parametrize("revoked", [False, True])
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_an_exposed_server_needs_a_key(tmp_path: Path, host: str, revoked: bool) -> None:
    if revoked:
        keys = KeyFile(tmp_path / "keys.json")
        keys.revoke(keys.create("ada", frozenset({KeyScope.READ}), now=0.0)[0].id, now=1.0)
    with pytest.raises(InvalidRequest, match="ampsweep keys create") as refused:
        auth_policy(read_settings(home=tmp_path, host=host, behind_tls_proxy=True))
    assert refused.value.param == "keys"


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_with_a_key_behind_a_proxy_only_the_key_is_accepted(tmp_path: Path, key: str, host: str) -> None:
    policy = auth_policy(read_settings(home=tmp_path, host=host, behind_tls_proxy=True))
    with pytest.raises(Unauthenticated):
        policy.authenticate("GET", "/v1/sweeps", HERE)
    principal = policy.authenticate("GET", "/v1/sweeps", {"authorization": f"Bearer {key}"})
    assert principal is not None
    assert principal.name == "ada"


def test_with_a_key_and_a_certificate_it_starts(tmp_path: Path, key: str, pem: Path) -> None:
    policy = auth_policy(read_settings(home=tmp_path, host="0.0.0.0", tls_cert=pem, tls_key=pem))
    assert policy.authenticate("GET", "/v1/sweeps", {"authorization": f"Bearer {key}"})


def test_half_a_certificate_is_refused(tmp_path: Path, pem: Path) -> None:
    with pytest.raises(InvalidRequest, match="both"):
        auth_policy(read_settings(home=tmp_path, tls_cert=pem))


def test_on_the_loopback_interface_it_is_open_until_it_has_a_key(tmp_path: Path) -> None:
    policy = auth_policy(read_settings(home=tmp_path))
    assert policy.authenticate("POST", "/v1/sweeps", HERE) is LOCAL
    KeyFile(tmp_path / "keys.json").create("ada", frozenset({KeyScope.READ}), now=0.0)
    with pytest.raises(Unauthenticated):
        policy.authenticate("POST", "/v1/sweeps", HERE)


def test_the_keys_may_be_in_another_file(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    KeyFile(elsewhere).create("ada", frozenset({KeyScope.READ}), now=0.0)
    policy = auth_policy(read_settings(home=tmp_path, keys=elsewhere))
    with pytest.raises(Unauthenticated):
        policy.authenticate("GET", "/v1/sweeps", HERE)


def test_every_limit_is_a_setting(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "max_body_bytes": 2048,
        "max_prompt_chars": 1,
        "max_tokens": 2,
        "max_cells": 3,
        "max_capture_bytes": 6,
        "max_streams": 4,
        "max_requests_a_minute": 5,
    }
    assert limits_of(read_settings(**settings)) == Limits(
        body_bytes=2048, prompt_chars=1, max_tokens=2, cells=3, streams=4, requests_a_minute=5, capture_bytes=6
    )
    assert limits_of(read_settings(max_requests_a_minute=0)) == Limits(requests_a_minute=None)
    assert limits_of(read_settings()) == Limits()


def test_metrics_are_open_only_where_a_setting_says_so(tmp_path: Path, key: str) -> None:
    closed = auth_policy(read_settings(home=tmp_path))
    with pytest.raises(Unauthenticated):
        closed.authenticate("GET", "/metrics", {})
    assert closed.authenticate("GET", "/metrics", {"authorization": f"Bearer {key}"}) is not None
    opened = auth_policy(read_settings(home=tmp_path, open_metrics=True))
    assert opened.authenticate("GET", "/metrics", {}) is None
    with pytest.raises(Unauthenticated):
        opened.authenticate("GET", "/v1/sweeps", {})


def test_the_page_is_open_only_where_a_setting_says_so(tmp_path: Path, key: str) -> None:
    closed = auth_policy(read_settings(home=tmp_path))
    opened = auth_policy(read_settings(home=tmp_path, open_page=True))
    for path in ("/", "/page/app.js"):
        with pytest.raises(Unauthenticated):
            closed.authenticate("GET", path, {})
        assert closed.authenticate("GET", path, {"authorization": f"Bearer {key}"}) is not None
        assert opened.authenticate("GET", path, {}) is None
    with pytest.raises(Unauthenticated):
        opened.authenticate("GET", "/v1/sweeps", {})
