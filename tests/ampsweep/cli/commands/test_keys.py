"""`ampsweep keys`, and a server that requires the created keys."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ampsweep import Client
from ampsweep.cli.app import app
from ampsweep.errors import Forbidden, Unauthenticated
from tests.ampsweep.client.server_process import server_process

pytestmark = pytest.mark.processes


def keys(home: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["keys", *arguments, "--home", str(home)])


def created(home: Path, name: str, scopes: str) -> str:
    done = keys(home, "create", "--name", name, "--scopes", scopes)
    assert done.exit_code == 0, done.output
    return str(done.stdout.strip())


def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    token = created(tmp_path, "ada", "read, submit")
    listed = keys(tmp_path, "list").stdout
    assert token not in listed
    key_id, name, scopes, *rest = listed.split()
    assert (name, scopes, rest[-1]) == ("ada", "read,submit", "valid")
    assert token.startswith(f"amp_{key_id}_")
    assert keys(tmp_path, "revoke", key_id).exit_code == 0
    assert " revoked " in keys(tmp_path, "list").stdout


def test_keys_as_json(tmp_path: Path) -> None:
    done = keys(tmp_path, "create", "--name", "ada", "--json")
    assert done.stderr == "", "standard error has errors only"
    created = json.loads(done.stdout)
    assert created.pop("key").startswith(f"amp_{created['id']}_")
    assert (created["name"], created["scopes"], created["revoked_at"]) == ("ada", ["read", "submit"], None)
    assert json.loads(keys(tmp_path, "list", "--json").stdout) == created
    assert json.loads(keys(tmp_path, "revoke", created["id"], "--json").stdout)["revoked_at"] > created["created_at"]


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["create", "--name", "ada", "--scopes", "write"], "read, submit, admin", 2),
        (["create", "--name", "ada", "--scopes", ","], "at least one", 2),
        (["create", "--name", "a/b"], "name", 2),
        (["revoke", "nope"], "keys list", 3),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], says: str, code: int) -> None:
    done = keys(tmp_path, *arguments)
    assert done.exit_code == code
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_running_server_follows_the_command_line(
    model: Path, tmp_path: Path, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    with server_process(model, home) as server:
        with Client(server.url) as open_to_all:
            assert open_to_all.models()
            token = created(home, "ada", "read")
            with pytest.raises(Unauthenticated):
                open_to_all.models()
        with Client(server.url, api_key=token) as reader:
            assert reader.ready()
            assert reader.models()
            with pytest.raises(Forbidden, match="submit"):
                reader.submit(spec)
        monkeypatch.setenv("AMPSWEEP_API_KEY", created(home, "bob", "read,submit"))
        with Client(server.url) as submitter:
            *_, last = submitter.watch(submitter.submit(spec).id)
            assert last.status == "completed"


def test_an_exposed_server_without_protection_does_not_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    command = [
        sys.executable,
        "-m",
        "ampsweep.cli",
        "serve",
        "--home",
        str(tmp_path),
        "--host",
        "0.0.0.0",
        "--port",
        port,
    ]
    for more, says in (([], "--tls-cert"), (["--behind-tls-proxy"], "ampsweep keys create")):
        ended = subprocess.run(
            [*command, *more], capture_output=True, text=True, timeout=60, check=False, env=os.environ
        )
        assert ended.returncode == 2
        assert says in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def test_a_server_answers_over_tls(model: Path, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", *curve, *subject, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    with server_process(model, tmp_path / "home", "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://127.0.0.1:")
        host, port = server.url.removeprefix("https://").split(":")
        trusted = ssl.create_default_context(cafile=cert)
        with socket.create_connection((host, int(port))) as raw, trusted.wrap_socket(raw, server_hostname=host) as tls:
            tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert tls.recv(64).startswith(b"HTTP/1.1 200")
