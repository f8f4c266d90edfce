"""The images, as far as they can be checked without a container engine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.deploy.dockerfile import ROOT, build, lineage, read_stages, sent

STAGES = read_stages()
TARGETS = ("client", "cpu", "gpu")


def test_hadolint_reports_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    ended = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.mark.parametrize("target", TARGETS)
def test_images_run_without_root(target: str) -> None:
    users = [rest for stage in lineage(STAGES, target) for word, rest in stage.instructions if word == "USER"]
    assert users[-1] == "10001:10001"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_a_health_check_or_says_that_it_serves_nothing(target: str) -> None:
    checks = [rest for stage in lineage(STAGES, target) for word, rest in stage.instructions if word == "HEALTHCHECK"]
    assert (checks == ["NONE"]) == (target == "client")
    assert checks


@pytest.mark.parametrize("target", TARGETS)
def test_what_builds_stays_behind(target: str) -> None:
    """Nothing but the finished environment comes from the builders; the server keeps only the compiler it needs."""
    instructions = [(word, rest) for stage in lineage(STAGES, target) for word, rest in stage.instructions]
    assert [rest for word, rest in instructions if word == "COPY"] == [
        f"--from={target}-builder /opt/ampsweep /opt/ampsweep"
    ]
    installed = [rest for word, rest in instructions if word == "RUN" and "install" in rest]
    assert all("pip" not in rest and "uv " not in rest for rest in installed)
    packages = (
        set(re.findall(r"--no-install-recommends ([^&]*)", " ".join(installed))[0].split()) if installed else set()
    )
    assert packages == (set() if target == "client" else {"g++", "libnuma1", "tini"})


def test_every_base_is_an_exact_release() -> None:
    bases = {stage.base for stage in STAGES.values()} - STAGES.keys()
    assert bases
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base) for base in bases)


def test_no_secret_and_no_stray_file_is_sent_along() -> None:
    assert sent("ampsweep/atlas/model/config.json")
    assert sent("deploy/locks/cpu.txt")
    for name in (".git/config", "deploy/secrets/ray_token", "ampsweep-home/keys.json", "tests/conftest.py", ".env"):
        assert not sent(name), name
    assert not sent("api/__pycache__/app.cpython-311.pyc")


@pytest.mark.parametrize("target", TARGETS)
def test_the_lists_of_packages_have_what_the_project_asks_for(target: str) -> None:
    lines = (ROOT / "deploy" / "locks" / f"{target}.txt").read_text(encoding="utf-8").splitlines()
    locked = {Requirement(line).name: str(Requirement(line).specifier).removeprefix("==") for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = list(project["dependencies"])
    if target != "client":
        requirements += extras["server"] + extras["tasks"] + extras[target]
    for requirement in map(Requirement, requirements):
        if requirement.name == "ampsweep":
            continue
        assert requirement.name in locked, f"{requirement.name} is missing; run deploy/locks/lock.sh"
        assert requirement.specifier.contains(locked[requirement.name], prereleases=True), requirement
    if target == "client":
        assert not {"torch", "ray", "fastapi"} & locked.keys()


@pytest.mark.reliability
def test_the_client_installs_by_its_own_lines_and_needs_no_torch(tmp_path: Path) -> None:
    environment = build("client", tmp_path, {})
    shown = subprocess.run([environment / "bin" / "ampsweep", "--help"], capture_output=True, text=True, check=True)
    assert "submit" in shown.stdout
    code = "import importlib.util as u, ampsweep; print([u.find_spec(name) for name in ('torch', 'ray', 'fastapi')])"
    process = subprocess.run([environment / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    assert "[None, None, None]" in process.stdout
    wrong = [str(environment / "bin" / "ampsweep"), "status", "--server", "http://127.0.0.1:9"]
    ended = subprocess.run(wrong, capture_output=True, text=True, check=False)
    assert (ended.returncode, "no connection" in ended.stderr) == (5, True)
