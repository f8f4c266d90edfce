"""A server that would stand open is not started; the refusal says what to give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampsweep.cli.exposure import door_of, limits_of
from ampsweep.errors import InvalidRequest, Unauthenticated
from ampsweep.settings import read_settings
from api.caller import LOCAL
from api.keys import KeyFile, KeyScope
from api.limits import Limits

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
        door_of(read_settings(home=tmp_path, host=host))
    assert refused.value.param == "host"


@pytest.mark.parametrize("revoked", [False, True])
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_who_is_reached_from_outside_needs_a_key(tmp_path: Path, host: str, revoked: bool) -> None:
    if revoked:
        keys = KeyFile(tmp_path / "keys.json")
        keys.revoke(keys.create("ada", frozenset({KeyScope.READ}), now=0.0)[0].id, now=1.0)
    with pytest.raises(InvalidRequest, match="ampsweep keys create") as refused:
        door_of(read_settings(home=tmp_path, host=host, behind_tls_proxy=True))
    assert refused.value.param == "keys"


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_with_key_and_proxy_it_opens_to_the_key_alone(tmp_path: Path, key: str, host: str) -> None:
    door = door_of(read_settings(home=tmp_path, host=host, behind_tls_proxy=True))
    with pytest.raises(Unauthenticated):
        door.let_in("GET", "/v1/sweeps", HERE)
    caller = door.let_in("GET", "/v1/sweeps", {"authorization": f"Bearer {key}"})
    assert caller is not None
    assert caller.name == "ada"


def test_with_key_and_certificate_it_opens(tmp_path: Path, key: str, pem: Path) -> None:
    door = door_of(read_settings(home=tmp_path, host="0.0.0.0", tls_cert=pem, tls_key=pem))
    assert door.let_in("GET", "/v1/sweeps", {"authorization": f"Bearer {key}"})


def test_half_a_certificate_is_refused(tmp_path: Path, pem: Path) -> None:
    with pytest.raises(InvalidRequest, match="both"):
        door_of(read_settings(home=tmp_path, tls_cert=pem))


def test_on_this_machine_it_is_open_until_it_has_a_key(tmp_path: Path) -> None:
    door = door_of(read_settings(home=tmp_path))
    assert door.let_in("POST", "/v1/sweeps", HERE) is LOCAL
    KeyFile(tmp_path / "keys.json").create("ada", frozenset({KeyScope.READ}), now=0.0)
    with pytest.raises(Unauthenticated):
        door.let_in("POST", "/v1/sweeps", HERE)


def test_the_keys_may_be_in_another_file(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    KeyFile(elsewhere).create("ada", frozenset({KeyScope.READ}), now=0.0)
    door = door_of(read_settings(home=tmp_path, keys=elsewhere))
    with pytest.raises(Unauthenticated):
        door.let_in("GET", "/v1/sweeps", HERE)


def test_every_limit_is_a_setting(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "max_body_bytes": 2048,
        "max_prompt_chars": 1,
        "max_tokens": 2,
        "max_cells": 3,
        "max_streams": 4,
        "max_requests_a_minute": 5,
    }
    assert limits_of(read_settings(**given)) == Limits(
        body_bytes=2048, prompt_chars=1, max_tokens=2, cells=3, streams=4, requests_a_minute=5
    )
    assert limits_of(read_settings(max_requests_a_minute=0)) == Limits(requests_a_minute=None)
    assert limits_of(read_settings()) == Limits()


def test_metrics_are_open_only_where_a_setting_says_so(tmp_path: Path, key: str) -> None:
    closed = door_of(read_settings(home=tmp_path))
    with pytest.raises(Unauthenticated):
        closed.let_in("GET", "/metrics", {})
    assert closed.let_in("GET", "/metrics", {"authorization": f"Bearer {key}"}) is not None
    opened = door_of(read_settings(home=tmp_path, open_metrics=True))
    assert opened.let_in("GET", "/metrics", {}) is None
    with pytest.raises(Unauthenticated):
        opened.let_in("GET", "/v1/sweeps", {})


def test_the_page_is_open_only_where_a_setting_says_so(tmp_path: Path, key: str) -> None:
    closed = door_of(read_settings(home=tmp_path))
    opened = door_of(read_settings(home=tmp_path, open_page=True))
    for path in ("/", "/page/app.js"):
        with pytest.raises(Unauthenticated):
            closed.let_in("GET", path, {})
        assert closed.let_in("GET", path, {"authorization": f"Bearer {key}"}) is not None
        assert opened.let_in("GET", path, {}) is None
    with pytest.raises(Unauthenticated):
        opened.let_in("GET", "/v1/sweeps", {})
