"""Server, Ray head and Ray worker of compose.yaml work together, each started by its own command, with PostgreSQL.

The engine is the fake one, so that no GPU is asked for.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from ampsweep import Client
from api.auth.api_keys import KeyFile, KeyScope
from tests.deploy.compose_site import Site, free_port
from tests.deploy.test_compose import SERVICES
from tests.worker.installation import SPEC, Installation

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(600)]

BIN = Path(sys.executable).parent


def end_ray(temporary: Path) -> None:
    """End the Ray processes of this test: those whose command names its folder, `ray start` leaves them behind."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mine = str(temporary).encode() in (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if mine:
            os.kill(int(folder.name), signal.SIGKILL)


@pytest.fixture
def site(tmp_path: Path, postgres_url: str) -> Site:
    model = Installation.build(tmp_path / "stack").catalog.models["tiny"]
    token = tmp_path / "ray_token"
    token.write_text(secrets.token_hex(32))
    ports = {name: free_port() for name in ("ray", "server")}
    passed_on = ("HOME", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in passed_on if name in os.environ} | {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "RAY_AUTH_MODE": SERVICES["ray-head"]["environment"]["RAY_AUTH_MODE"],
        "RAY_AUTH_TOKEN_PATH": str(token),
        "AMPSWEEP_DATABASE_URL": postgres_url,
        "AMPSWEEP_HOME": str(tmp_path / "home"),
        "AMPSWEEP_RESULTS": str(tmp_path / "published"),
        "AMPSWEEP_MODELS": f"tiny={model}",
        "AMPSWEEP_ATLAS": "false",
        "AMPSWEEP_ENGINE": "fake",
        "AMPSWEEP_PORT": str(ports["server"]),
        "AMPSWEEP_LOG_FORMAT": "json",
        "AMPSWEEP_OTLP_ENDPOINT": "",  # as Compose passes on what nobody has set
    }
    return Site(folder=tmp_path, ports=ports, environment=environment)


def test_the_services_work_together(site: Site) -> None:
    keys = KeyFile(Path(site.environment["AMPSWEEP_HOME"]) / "keys.json")
    _, key = keys.create("me", frozenset({KeyScope.READ, KeyScope.SUBMIT}), now=0.0)
    temporary = Path(f"/tmp/ampsweep-compose-{os.getpid()}")  # Ray's sockets lie below it; their paths must be short
    url = f"http://127.0.0.1:{site.ports['server']}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        stack.callback(end_ray, temporary)
        stack.enter_context(site.running("ray-head", f"--temp-dir={temporary}"))
        site.until(lambda: site.healthy("ray-head"), "a healthy head")
        stack.enter_context(site.running("ray-worker"))
        # Two nodes that start at once in one folder of sessions get in each other's way; containers share none.
        site.until(lambda: "Ray runtime started" in site.logs["ray-worker"].read_text(), "a node of the worker")
        assert site.healthy("ray-worker")
        server = stack.enter_context(site.running("server"))
        site.until(lambda: site.healthy("server"), "a healthy server")
        site.until(lambda: httpx.get(f"{url}/readyz").status_code == 200, "an engine on the worker")
        with Client(url, api_key=key) as client:
            *_, sweep = client.watch(client.submit(SPEC).id)
        assert sweep.status == "completed"
        server.terminate()
        assert server.wait(60) == 0
        log = site.logs["server"].read_text()
    assert '"event": "the sweep is finalized"' in log
    assert key not in log
