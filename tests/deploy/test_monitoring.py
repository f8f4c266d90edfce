"""The dashboard, the alerts and the docs use exactly the metrics that a server exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from api.auth.api_keys import KeyScope
from tests.api.threaded_server import server_in_thread
from tests.deploy.dockerfile import ROOT
from tests.deploy.test_compose import SERVICES
from tests.deploy.test_kuberay import SERVER
from tests.worker.installation import SPEC, Installation

DEPLOY = ROOT / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "ampsweep.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SCRAPING: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]] + [rule["expr"] for rule in ALERTS]
PAGE = (ROOT / "docs" / "observability.md").read_text("utf-8")
NAME = re.compile(r"\b(?:ampsweep|process)_[a-z_]+\b")
MONITOR: dict[str, Any] = yaml.safe_load((DEPLOY / "kuberay-monitoring" / "podmonitor.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a server that has done a sweep answers a Prometheus which asks as the one in compose.yaml does."""
    installation = Installation.build(tmp_path_factory.mktemp("installation"))
    with server_in_thread(installation) as (url, server), httpx.Client(base_url=url) as client:
        _, submits = server.key(KeyScope.SUBMIT)
        sweep = client.post("/v1/sweeps", json=SPEC, headers=submits).json()
        _, reads = server.key(KeyScope.READ)
        client.get(f"/v1/sweeps/{sweep['id']}/events", headers=reads, timeout=60)  # ends with the sweep
        (job,) = SCRAPING["scrape_configs"]
        (target,) = job["static_configs"][0]["targets"]
        kind = job["authorization"]["type"]
        key = reads["Authorization"].removeprefix("Bearer ")
        answer = client.get("/metrics", headers={"Host": target, "Authorization": f"{kind} {key}"})
        assert answer.status_code == 200
        return answer.text


@pytest.fixture(scope="module")
def labels_of_metrics(page: str) -> dict[str, set[str]]:
    """The names of a page's samples, each with its labels."""
    labels_by_name: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        if family.type == "histogram":
            labels_by_name |= {
                f"{family.name}_{part}": {"method", "route", "le"} for part in ("bucket", "count", "sum")
            }
        for sample in family.samples:
            labels_by_name.setdefault(sample.name, set()).update(sample.labels)
        labels_by_name.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, set())
    return labels_by_name


@pytest.mark.parametrize("query", QUERIES)
def test_queries_use_existing_metrics_and_labels(query: str, labels_of_metrics: dict[str, set[str]]) -> None:
    names = NAME.findall(query)
    assert names or query.startswith(("up{", "min(up{"))
    assert set(names) <= labels_of_metrics.keys()
    for name, selector in re.findall(r"\b((?:ampsweep|process)_[a-z_]+)\{([^}]*)\}", query):
        label_names = set(re.findall(r"(\w+)[!=]", selector))
        assert label_names - {"job"} <= labels_of_metrics[name]


def names_of(labels_of_metrics: dict[str, set[str]]) -> set[str]:
    """Return the names of families: those of a histogram's parts are one."""
    parts = re.compile(r"(ampsweep_http_\w+_seconds)_(bucket|count|sum|created)$")
    return {
        parts.sub(r"\1", name)
        for name in labels_of_metrics
        if name.startswith("ampsweep_") and not name.endswith("_created")
    }


def test_the_docs_list_every_name_and_no_other(labels_of_metrics: dict[str, set[str]]) -> None:
    listed = set(re.findall(r"^\| `(ampsweep_[a-z_]+)", PAGE, re.MULTILINE))
    assert listed == names_of(labels_of_metrics)


def test_the_dashboard_shows_every_name_but_the_version(labels_of_metrics: dict[str, set[str]]) -> None:
    shown = {re.sub(r"_bucket$", "", name) for query in QUERIES for name in NAME.findall(query)}
    assert names_of(labels_of_metrics) - shown == {"ampsweep_build_info"}


def test_every_alert_is_explained() -> None:
    for rule in ALERTS:
        assert f"`{rule['alert']}`" in PAGE
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_panels_have_places_of_their_own_and_a_source_that_is_there() -> None:
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8"))
    uids = {one["uid"] for one in source["datasources"]}
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        index = panel["gridPos"]
        positions = {
            (x, y)
            for x in range(index["x"], index["x"] + index["w"])
            for y in range(index["y"], index["y"] + index["h"])
        }
        assert max(x for x, _ in positions) < 24
        assert not taken & positions, panel["title"]
        taken |= positions
    for panel in PANELS:
        assert panel["datasource"]["uid"] in uids
        assert panel["title"]
        assert panel["description"]
        assert all(target["datasource"]["uid"] in uids for target in panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def mounted(service: str) -> dict[str, str]:
    return {target: source for source, target, *_ in (volume.split(":") for volume in SERVICES[service]["volumes"])}


def test_grafana_finds_its_dashboard_and_prometheus_its_files() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/ampsweep.yaml").read_text("utf-8"))
    folder = provider["providers"][0]["options"]["path"]
    assert (DEPLOY / mounted("grafana")[folder] / "ampsweep.json").is_file()
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/ampsweep.json"
    assert (DEPLOY / mounted("prometheus")["/etc/prometheus"] / "prometheus.yml").is_file()
    assert SCRAPING["rule_files"] == ["alerts.yml"]
    (job,) = SCRAPING["scrape_configs"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{SERVICES['prometheus']['secrets'][0]}"
    assert job["static_configs"][0]["targets"] == ["server:8700"]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8"))
    assert source["datasources"][0]["url"] == "http://prometheus:9090"


def test_the_pod_monitor_asks_the_server_at_its_port_with_a_key_that_the_docs_make() -> None:
    """Fields are those of the API reference of monitoring.coreos.com/v1."""
    assert (MONITOR["apiVersion"], MONITOR["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    assert MONITOR["spec"].keys() == {"selector", "podMetricsEndpoints"}
    assert MONITOR["spec"]["selector"] == SERVER["spec"]["selector"]
    (endpoint,) = MONITOR["spec"]["podMetricsEndpoints"]
    assert endpoint.keys() <= {"port", "path", "interval", "scheme", "authorization", "scrapeTimeout"}
    ports = {port["name"] for port in SERVER["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert endpoint["port"] in ports
    assert endpoint["path"] == "/metrics"
    secret = endpoint["authorization"]["credentials"]
    deploying = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    assert f"secret generic {secret['name']} --from-file={secret['key']}=" in deploying
    listed = yaml.safe_load((DEPLOY / "kuberay-monitoring" / "kustomization.yaml").read_text("utf-8"))["resources"]
    assert listed == ["podmonitor.yaml"]


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not on the PATH (on Debian: apt install prometheus)")
    return path


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """The folder of Prometheus' files, with a key where its container has one."""
    shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    (tmp_path / "key").write_text("amp_x\n", encoding="utf-8")
    config = tmp_path / "prometheus" / "prometheus.yml"
    config.write_text(config.read_text("utf-8").replace("/run/secrets/metrics_key", str(tmp_path / "key")), "utf-8")
    return config


def test_promtool_takes_configuration_and_alerts(promtool: str, configured: Path) -> None:
    done = subprocess.run([promtool, "check", "config", configured], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_promtool_accepts_the_metrics_page(promtool: str, page: str) -> None:
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_query_is_promql(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{index}", "expr": query.replace("$__rate_interval", "1m")}
        for index, query in enumerate(QUERIES)
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
