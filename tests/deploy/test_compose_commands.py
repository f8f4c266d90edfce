"""The services of compose.yaml without containers: their own commands, health checks and scraping, on this machine.

What a container would have of its own is put in its place: names of hosts become 127.0.0.1, secrets files of the test,
and the engine is the fake one, so that no GPU is asked for.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ampsweep import Client
from api.keys import KeyFile, KeyScope
from tests.deploy.dockerfile import lineage, read_stages
from tests.deploy.test_compose import DEPLOY, SERVICES
from tests.deploy.test_monitoring import QUERIES
from tests.worker.house import SPEC, House

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(600)]

BIN = Path(sys.executable).parent
WITHIN = 120.0


@dataclass(kw_only=True)
class Site:
    """Where the services are, in place of what containers would give them."""

    folder: Path
    ports: Mapping[str, int]
    environment: Mapping[str, str]
    logs: dict[str, Path] = field(default_factory=dict)

    def placed(self, words: Sequence[str]) -> list[str]:
        """Return a command with this machine in it; `tini` reaps for containers alone."""
        changes = {
            "ray-head:6379": f"127.0.0.1:{self.ports['ray']}",
            "127.0.0.1:6379": f"127.0.0.1:{self.ports['ray']}",
            "--port=6379": f"--port={self.ports['ray']}",
            "ray start": "ray start --node-ip-address=127.0.0.1 --disable-usage-stats",
            "/etc/prometheus": str(self.folder / "prometheus"),
            "--storage.tsdb.path=/prometheus": f"--storage.tsdb.path={self.folder / 'tsdb'}",
            "http://127.0.0.1:9090": f"http://127.0.0.1:{self.ports['prometheus']}",
        }
        words = list(words[2:] if words[0] == "tini" else words)
        if words[:2] == ["ray", "start"]:
            words[2:2] = ["--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        for old, new in changes.items():
            words = [word.replace(old, new) for word in words]
        return words

    @contextmanager
    def running(self, service: str, *more: str, program: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run a service's command until the block ends; `program` is what an image of others begins with."""
        words = [*([program] if program else SERVICES[service]["entrypoint"]), *SERVICES[service]["command"]]
        self.logs[service] = self.folder / f"{service}.log"
        with self.logs[service].open("wb") as log:
            process = subprocess.Popen(
                [*self.placed(words), *more],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def healthy(self, service: str) -> bool:
        """Run a service's health check, or that of its image."""
        check: list[str] = SERVICES[service].get("healthcheck", {}).get("test", [])
        words = check[1:] if check else image_check()
        return (
            subprocess.run(self.placed(words), env=self.environment, capture_output=True, check=False).returncode == 0
        )

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + WITHIN
        while not condition():
            if time.monotonic() > end:
                said = "\n".join(f"--- {name}\n{path.read_text()[-2000:]}" for name, path in self.logs.items())
                raise AssertionError(f"{what} did not come to be\n{said}")
            time.sleep(0.5)


def image_check() -> list[str]:
    """Return the health check of the server's image."""
    (check,) = [
        rest for stage in lineage(read_stages(), "gpu") for word, rest in stage.instructions if word == "HEALTHCHECK"
    ]
    words: list[str] = yaml.safe_load(check.partition("CMD ")[2])
    return words


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


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
    model = House.build(tmp_path / "house").catalog.models["tiny"]
    token = tmp_path / "ray_token"
    token.write_text(secrets.token_hex(32))
    ports = {name: free_port() for name in ("ray", "server", "prometheus")}
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


def set_up_prometheus(site: Site, key: str) -> None:
    """Put Prometheus' files where its container has them."""
    shutil.copytree(DEPLOY / "prometheus", site.folder / "prometheus")
    secret = site.folder / "metrics_key"
    secret.write_text(key)
    config = site.folder / "prometheus" / "prometheus.yml"
    text = config.read_text().replace("/run/secrets/metrics_key", str(secret)).replace("15s", "1s")
    config.write_text(text.replace("server:8700", f"127.0.0.1:{site.ports['server']}"))


def test_the_services_work_together(site: Site) -> None:
    keys = KeyFile(Path(site.environment["AMPSWEEP_HOME"]) / "keys.json")
    _, key = keys.create("me", frozenset({KeyScope.READ, KeyScope.SUBMIT}), now=0.0)
    _, reads = keys.create("prometheus", frozenset({KeyScope.READ}), now=0.0)
    temporary = Path(f"/tmp/ampsweep-compose-{os.getpid()}")  # Ray's sockets lie below it; their paths must be short
    url = f"http://127.0.0.1:{site.ports['server']}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        stack.callback(end_ray, temporary)
        stack.enter_context(site.running("ray-head", f"--temp-dir={temporary}"))
        site.until(lambda: site.healthy("ray-head"), "a healthy head")
        stack.enter_context(site.running("ray-worker"))
        site.until(lambda: site.healthy("ray-worker"), "a healthy worker")
        server = stack.enter_context(site.running("server"))
        site.until(lambda: site.healthy("server"), "a healthy server")
        site.until(lambda: httpx.get(f"{url}/readyz").status_code == 200, "an engine on the worker")
        with Client(url, api_key=key) as client:
            *_, sweep = client.watch(client.submit(SPEC).id)
        assert sweep.status == "completed"
        if shutil.which("prometheus", path=site.environment["PATH"]):
            look_at_prometheus(site, stack, reads)
        server.terminate()
        assert server.wait(60) == 0
        said = site.logs["server"].read_text()
    assert '"event": "the sweep is finalized"' in said
    assert key not in said


def look_at_prometheus(site: Site, stack: ExitStack, key: str) -> None:
    """Let Prometheus scrape the server, and ask it all that the dashboard and the alerts ask."""
    set_up_prometheus(site, key)
    address = f"127.0.0.1:{site.ports['prometheus']}"
    stack.enter_context(site.running("prometheus", f"--web.listen-address={address}", program="prometheus"))
    asking = httpx.Client(base_url=f"http://{address}")
    stack.callback(asking.close)

    def value(query: str) -> list[Any]:
        try:
            answer = asking.get("/api/v1/query", params={"query": query}).json()
        except httpx.TransportError:
            return []
        assert answer["status"] == "success", answer
        found: list[Any] = answer["data"]["result"]
        return found

    site.until(lambda: [one["value"][1] for one in value('up{job="ampsweep"}')] == ["1"], "a scraped server")
    site.until(lambda: bool(value("rate(process_cpu_seconds_total[5s])")), "two scrapes")
    for query in QUERIES:
        value(query.replace("$__rate_interval", "5s"))
    (completed,) = value('ampsweep_queue_cells{state="completed"}')
    assert int(completed["value"][1]) > 0
