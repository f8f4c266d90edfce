"""A real Prometheus scrapes a real server and answers the queries of the dashboard and the alerts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import httpx
import pytest

from api.auth.api_keys import KeyScope
from tests.api.threaded_server import server_in_thread
from tests.deploy.compose_site import Site, free_port
from tests.deploy.test_compose import DEPLOY
from tests.deploy.test_monitoring import ALERTS, QUERIES
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.reliability

QUIET = {
    "max by (owner) (ampsweep_queue_leases)",
    "sum by (code) (rate(ampsweep_http_refused_total[$__rate_interval]))",
}
"""Asks about what does not happen here: cells that run, requests that are refused."""


def set_up_prometheus(site: Site, key: str) -> None:
    """Put Prometheus' files where its container has them; it asks every second."""
    shutil.copytree(DEPLOY / "prometheus", site.folder / "prometheus")
    secret = site.folder / "metrics_key"
    secret.write_text(key)
    config = site.folder / "prometheus" / "prometheus.yml"
    text = config.read_text().replace("/run/secrets/metrics_key", str(secret)).replace("15s", "1s")
    config.write_text(text.replace("server:8700", f"127.0.0.1:{site.ports['server']}"))


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on the PATH (on Debian: apt install it)")
def test_prometheus_gets_what_dashboard_and_alerts_ask_for(tmp_path: Path) -> None:
    with server_in_thread(Installation.build(tmp_path / "installation"), exposed=True) as (url, server):
        _, reads = server.key(KeyScope.READ)
        _, submits = server.key(KeyScope.SUBMIT)
        sweep = httpx.post(f"{url}/v1/sweeps", json=SPEC, headers=submits).json()
        httpx.get(f"{url}/v1/sweeps/{sweep['id']}/events", headers=reads, timeout=60)  # ends with the sweep
        ports = {"server": urlparse(url).port or 0, "prometheus": free_port(), "ray": 0}
        site = Site(folder=tmp_path, ports=ports, environment={"PATH": os.environ["PATH"]})
        set_up_prometheus(site, reads["Authorization"].removeprefix("Bearer "))
        address = f"127.0.0.1:{ports['prometheus']}"
        with (
            site.running("prometheus", f"--web.listen-address={address}", program="prometheus"),
            httpx.Client(base_url=f"http://{address}") as asking,
        ):
            site.until(lambda: site.healthy("prometheus"), "a healthy Prometheus")

            def query_result(query: str) -> list[Any]:
                answer = asking.get("/api/v1/query", params={"query": query.replace("$__rate_interval", "5s")}).json()
                assert answer["status"] == "success", answer
                values: list[Any] = answer["data"]["result"]
                return values

            site.until(
                lambda: [one["value"][1] for one in query_result('up{job="ampsweep"}')] == ["1"], "a scraped server"
            )
            site.until(lambda: bool(query_result("rate(process_cpu_seconds_total[5s])")), "two scrapes")
            alerting = {rule["expr"] for rule in ALERTS}
            assert {query for query in QUERIES if not query_result(query)} == alerting | QUIET
            (group,) = asking.get("/api/v1/rules").json()["data"]["groups"]
            assert {(rule["state"], rule["health"]) for rule in group["rules"]} == {("inactive", "ok")}
