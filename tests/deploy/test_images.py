"""Servers installed by the lines of the Dockerfile and run without a container engine."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml

from ampsweep import Client
from tests.deploy.dockerfile import build, lineage, read_stages

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(3600)]

START_SECONDS = 600.0
TORCH_HOST = "download.pytorch.org"
"""Where the Dockerfile gets the CPU build of torch, unless TORCH_INDEX says otherwise."""


def resolves(host: str) -> bool:
    """Return whether a host name has an address, that is, whether there is a network to install from."""
    with suppress(OSError):
        return bool(socket.getaddrinfo(host, 443))
    return False


def image(target: str) -> dict[str, str]:
    """Return the last of each instruction of an image, and all of its ENV."""
    values: dict[str, str] = {}
    for stage in lineage(read_stages(), target):
        for word, rest in stage.instructions:
            values[word] = f"{values[word]} {rest}" if word == "ENV" and word in values else rest
    return values


def words(instruction: str) -> list[str]:
    read: list[str] = yaml.safe_load(instruction[instruction.index("[") :])
    return read


def test_the_cpu_server_installs_by_its_own_lines_and_answers(tmp_path: Path) -> None:
    """TORCH_INDEX names where the CPU build of torch is, as for a build of the image."""
    index = os.environ.get("TORCH_INDEX")
    if index is None and not resolves(TORCH_HOST):
        pytest.skip(f"{TORCH_HOST} cannot be reached; set TORCH_INDEX to an index with the CPU build of torch")
    installed = build("cpu", tmp_path, {"TORCH_INDEX": index} if index else {})
    says = image("cpu")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    outside = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    variables = dict(pair.split("=", 1) for pair in shlex.split(says["ENV"]))
    environment = (
        outside
        | variables
        | {
            "PATH": f"{installed / 'bin'}:/usr/bin:/bin",
            "AMPSWEEP_HOME": str(tmp_path / "home"),
            "AMPSWEEP_PORT": port,
            "AMPSWEEP_BEHIND_TLS_PROXY": "true",
        }
    )
    create_key = [str(installed / "bin" / "ampsweep"), "keys", "create", "--name", "me"]
    key = subprocess.run(create_key, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    command = [*words(says["ENTRYPOINT"])[2:], *words(says["CMD"])]  # without tini, which reaps for containers
    check = words(says["HEALTHCHECK"])
    url = f"http://127.0.0.1:{port}"
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stderr=output, start_new_session=True)
    try:
        end = time.monotonic() + START_SECONDS
        while subprocess.run(check, env=environment, capture_output=True, check=False).returncode != 0:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(1)
        while httpx.get(f"{url}/readyz").status_code != 200:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(1)
        with Client(url, api_key=key) as client:
            answer = client.complete("atlas", "In Egypt, the currency is", max_tokens=4, temperature=0.0)
        assert "Egyptian" in answer.text
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    lines = log.read_text().splitlines()
    assert any(line.startswith("{") and '"event": "request"' in line for line in lines), "the image logs JSON"
    assert key not in log.read_text()
