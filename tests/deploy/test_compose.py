"""The Compose file conforms to the specification, uses existing commands only, and contains no secret."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.cli.server.engine_specs import served_engines
from ampsweep.cli.server.settings import PREFIX, Settings, read_settings
from tests.deploy.commands import parse
from tests.deploy.dockerfile import ROOT, read_stages
from worker.resources.gpus import require_own_gpus

DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

KEY_OF_PROMETHEUS = "metrics_key"
"""An API key, which the server makes: the one secret that no script can."""

SERVICE_KEYS = {
    "build",
    "cap_drop",
    "command",
    "depends_on",
    "deploy",
    "entrypoint",
    "env_file",
    "environment",
    "healthcheck",
    "image",
    "networks",
    "ports",
    "restart",
    "secrets",
    "security_opt",
    "shm_size",
    "stop_grace_period",
    "volumes",
}
"""What the Compose Specification knows of a service, as far as this file uses it."""


@pytest.fixture
def compose() -> list[str]:
    """Docker's own Compose, as a plugin or alone; it reads a file without an engine."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]):
            output = subprocess.run([*words, "version", "--short"], capture_output=True, text=True, check=False).stdout
            if re.match(r"v?(2\.2[4-9]|2\.[3-9]\d|[3-9]|\d\d)", output):
                return words
    pytest.skip("Docker Compose 2.24 or newer is not on the PATH")


@pytest.mark.parametrize(("change", "taken"), [({}, True), ({"restarts": "always"}, False)])
def test_compose_itself_takes_the_file(compose: list[str], tmp_path: Path, change: dict[str, str], taken: bool) -> None:
    folder = shutil.copytree(DEPLOY, tmp_path / "deploy")
    server = SERVICES["server"] | change
    changed = COMPOSE | {"services": SERVICES | {"server": server}}
    (folder / "compose.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
    command = [*compose, "--file", str(folder / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is taken, done.stderr


def test_every_key_is_one_of_the_specification() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} <= {
        "name",
        "services",
        "networks",
        "volumes",
        "secrets",
    }
    for name, service in SERVICES.items():
        assert service.keys() <= SERVICE_KEYS, name
        assert service.get("healthcheck", {}).keys() <= {"test", "interval", "timeout", "retries", "start_period"}
        for word, arguments in service.get("depends_on", {}).items():
            assert word in SERVICES
            assert arguments["condition"] in {"service_started", "service_healthy"}


def test_names_in_a_service_exist() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys(), name
        assert set(service["networks"]) <= COMPOSE["networks"].keys(), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), source
            elif not source.startswith("${"):
                assert source in COMPOSE["volumes"], source
    build = SERVICES["server"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert build["target"] in read_stages()


def test_services_that_others_wait_for_have_a_health_check() -> None:
    images = {"server"}  # has the check of its image
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name] or name in images, name


def test_images_are_exact_releases() -> None:
    for name, service in SERVICES.items():
        if not service["image"].startswith("${AMPSWEEP_IMAGE"):
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+[\w.-]*", service["image"]), name


def test_only_the_proxy_is_reached_from_other_machines() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"proxy", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in published["grafana"])


def test_the_file_contains_no_secret_and_each_is_generated() -> None:
    script = (DEPLOY / "make-secrets.sh").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
        assert f"keep {name} " in script or (name == KEY_OF_PROMETHEUS and f"> secrets/{name}" in page)
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or str(value).startswith("/run/secrets/"), name


@pytest.mark.parametrize("name", SERVICES)
def test_every_command_of_ours_is_one_that_is_there(name: str) -> None:
    service = SERVICES[name]
    words = [*service.get("entrypoint", ()), *service.get("command", ())]
    if name in ("server", "ray-head", "ray-worker"):
        assert parse(words) > 0


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "AMPSWEEP_IMAGE" in service["image"]])
def test_every_setting_is_one_that_is_there(name: str) -> None:
    settings_used = {key for key in SERVICES[name].get("environment", {}) if key.startswith(PREFIX)}
    settings_used |= {secret.upper() for secret in SERVICES[name]["secrets"] if secret.upper().startswith(PREFIX)}
    assert {key.removeprefix(PREFIX).lower() for key in settings_used} <= Settings.model_fields.keys()


def test_the_list_of_models_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPSWEEP_MODELS", str(DEPLOY / "models.yaml"))
    assert list(read_settings().served()) == ["atlas"]


def test_no_engine_of_the_example_shares_a_gpu(tmp_path: Path) -> None:
    example = re.search(r"^# (large: .*)$", (DEPLOY / "models.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    assert example is not None
    assert example[1] in (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    large = yaml.safe_load(example[1])["large"] | {"path": str(ATLAS_MODEL)}
    default = re.fullmatch(r"\$\{AMPSWEEP_ATLAS:-(\w+)\}", SERVICES["server"]["environment"]["AMPSWEEP_ATLAS"])
    assert default is not None
    require_own_gpus(served_engines(Settings(models={"large": large}, atlas=default[1], home=tmp_path)))


def test_secrets_are_made_once(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets.sh"
    shutil.copy2(DEPLOY / "make-secrets.sh", script)
    subprocess.run([script], check=True, capture_output=True)
    first = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run([script], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == first
    assert first.keys() == COMPOSE["secrets"].keys() - {KEY_OF_PROMETHEUS}
    assert f":{first['postgres_password']}@postgres:5432/" in first["ampsweep_database_url"]
    assert len(set(first.values())) == len(first)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_graceful_stop_reaches_the_server_before_its_ray_node() -> None:
    shell = " ".join(SERVICES["server"]["command"])
    assert "exec ampsweep serve" in shell
    assert SERVICES["server"]["entrypoint"][:2] == ["tini", "--"], "signals go to the server alone, not to its group"
    assert shlex.split(shell)[-1] == "--behind-tls-proxy"


@pytest.mark.parametrize(
    "words",
    [
        ["ampsweep", "serve", "--colour=blue"],
        ["ampsweep", "server"],
        ["tini", "--", "/bin/sh", "-ec", "ray start --adress=x:1 && exec ampsweep serve"],
        ["ray", "begin"],
    ],
)
def test_a_command_that_is_not_there_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)no such option|no command"):
        parse(words)
