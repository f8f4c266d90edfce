"""The guard against other packages named `api`, `engine`, `jobs` or `worker`, for each way of starting the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ampsweep
from ampsweep.errors import InvalidRequest
from ampsweep.own_packages import GENERIC_NAMES, require_own_packages, shadowed_packages

ROOT = Path(ampsweep.__file__).parents[1]
COMMAND = ("-m", "ampsweep.cli")


def run(
    arguments: list[str], *, cwd: Path, search_path: tuple[Path, ...] = (), python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """Run an interpreter in a folder, with a PYTHONPATH of its own."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AMPSWEEP"))}
    variables |= {"PYTHONPATH": os.pathsep.join(map(str, search_path))} if search_path else {}
    return subprocess.run([python, *arguments], cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def module(folder: Path, name: str) -> Path:
    """Make a module that ends the process if anything imports it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text("raise SystemExit('the shadowing module was imported')")
    return path


def package(folder: Path, name: str) -> Path:
    """Make a package that ends the process if anything imports it."""
    return module(folder / name, "__init__").parent


def assert_refused(ended: subprocess.CompletedProcess[str], name: str, shadowing: Path, expected: Path) -> None:
    assert ended.returncode == 2, ended
    assert ended.stderr.startswith(
        f"error: package {name!r} is imported from {shadowing} instead of {expected}; rename {shadowing}"
    )
    assert len(ended.stderr.splitlines()) == 1


def test_the_packages_of_this_process_are_our_own() -> None:
    assert shadowed_packages() == []
    require_own_packages()


@pytest.mark.processes
@pytest.mark.parametrize("name", GENERIC_NAMES)
def test_a_module_in_the_current_folder(name: str, tmp_path: Path) -> None:
    shadowing = module(tmp_path, name)
    ended = run([*COMMAND, "generate", "Hello"], cwd=tmp_path, search_path=(ROOT,))
    assert_refused(ended, name, shadowing, ROOT / name)


@pytest.mark.processes
@pytest.mark.parametrize("name", GENERIC_NAMES)
def test_a_package_on_pythonpath(name: str, tmp_path: Path) -> None:
    shadowing = package(tmp_path / "mine", name)
    ended = run([*COMMAND, "run", "spec.yaml"], cwd=tmp_path, search_path=(tmp_path / "mine", ROOT))
    assert_refused(ended, name, shadowing, ROOT / name)


@pytest.mark.processes
def test_the_error_is_an_object_with_json(tmp_path: Path) -> None:
    shadowing = module(tmp_path, "jobs")
    ended = run([*COMMAND, "status", "--json"], cwd=tmp_path, search_path=(ROOT,))
    error = json.loads(ended.stderr)["error"]
    assert (ended.returncode, ended.stdout, error["code"], error["param"]) == (2, "", "invalid_request", None)
    assert str(shadowing) in error["message"]


@pytest.mark.processes
def test_a_folder_without_init_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    ended = run([*COMMAND, "neurons", "show", "missing"], cwd=tmp_path, search_path=(ROOT,))
    assert (ended.returncode, "is imported from" in ended.stderr) == (3, False), ended


@pytest.mark.processes
def test_a_package_behind_our_own_shadows_nothing(tmp_path: Path) -> None:
    package(tmp_path / "mine", "jobs")
    ended = run(
        [*COMMAND, "neurons", "show", "missing"], cwd=tmp_path / "mine" / "jobs", search_path=(ROOT, tmp_path / "mine")
    )
    assert ended.returncode == 3, ended


@pytest.mark.processes
def test_doctor_reports_it_as_a_finding(tmp_path: Path) -> None:
    shadowing = module(tmp_path, "engine")
    ended = run([*COMMAND, "doctor", "--json"], cwd=tmp_path, search_path=(ROOT,))
    findings = {finding["subject"]: finding for finding in map(json.loads, ended.stdout.splitlines())}
    assert ended.returncode == 1, ended
    assert findings["package engine"] == {
        "subject": "package engine",
        "state": "bad",
        "detail": f"package 'engine' is imported from {shadowing} instead of {ROOT / 'engine'}",
        "remedy": f"rename {shadowing}, uninstall what it belongs to, or take {tmp_path} off the module search path",
    }
    assert findings["Python"]["state"] == "ok"


def test_a_module_that_is_loaded_already_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    shadowing = module(tmp_path, "api")
    shadowing.write_text("")
    monkeypatch.delitem(sys.modules, "api", raising=False)
    imported = __import__("api")
    monkeypatch.syspath_prepend(str(ROOT))  # too late
    assert isinstance(imported, ModuleType)
    (shadowed,) = shadowed_packages()
    assert (shadowed.name, shadowed.imported, shadowed.expected) == ("api", shadowing, ROOT / "api")
    monkeypatch.delitem(sys.modules, "api")


def test_a_missing_package_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampsweep.own_packages.GENERIC_NAMES", ("jobs", "ampsweep_nothing"))
    with pytest.raises(InvalidRequest, match=r"package 'ampsweep_nothing' is missing; it belongs at .*; install"):
        require_own_packages()


@pytest.mark.processes
def test_the_check_imports_none_of_the_packages(tmp_path: Path) -> None:
    code = (
        "import sys; from ampsweep.own_packages import require_own_packages; require_own_packages()\n"
        f"print([name for name in {[*GENERIC_NAMES, 'httpx', 'typer', 'pydantic']} if name in sys.modules])"
    )
    ended = run(["-c", code], cwd=tmp_path, search_path=(ROOT,))
    assert ended.stdout.strip() == "[]", ended


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A virtual environment with this project, and the folder that its packages lie in."""

    python: Path
    packages: Path
    command: Path

    def run(self, *arguments: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return run([str(self.command), *arguments], cwd=cwd, python=str(self.python), **options)


def install(folder: Path, *, editable: bool) -> Installation:
    """Install a copy of the project into a virtual environment; its dependencies are those of this environment."""
    source = folder / "source"
    for name in ("ampsweep", *GENERIC_NAMES):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("atlas", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    venv.create(folder / "venv", with_pip=False)
    bin_folder = folder / "venv" / "bin"
    scheme: dict[str, Any] = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    site = Path(sysconfig.get_path("purelib", "venv", scheme))
    pip = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "install", "--quiet", "--no-index"]
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    what = ["--editable", str(source)] if editable else [str(source)]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--ignore-installed", *what], check=True)
    return Installation(
        python=bin_folder / "python", packages=source if editable else site, command=bin_folder / "ampsweep"
    )


@pytest.mark.processes
@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_an_installed_command(tmp_path: Path, editable: bool) -> None:
    installed = install(tmp_path, editable=editable)
    work = tmp_path / "work"
    shadowing = module(work, "jobs")
    found_package = package(tmp_path / "mine", "worker")

    # The script does not look into the current folder.
    ended = installed.run("neurons", "show", "missing", cwd=work)
    assert ended.returncode == 3, ended

    ended = run([*COMMAND, "neurons", "show", "missing"], cwd=work, python=str(installed.python))
    assert_refused(ended, "jobs", shadowing, installed.packages / "jobs")

    ended = installed.run("neurons", "show", "missing", cwd=work, search_path=(tmp_path / "mine",))
    assert_refused(ended, "worker", found_package, installed.packages / "worker")

    # Another checkout on PYTHONPATH replaces all packages together.
    ended = installed.run("neurons", "show", "missing", cwd=work, search_path=(ROOT,))
    assert ended.returncode == 3, ended

    findings = installed.run("doctor", "--json", cwd=work, search_path=(tmp_path / "mine",)).stdout.splitlines()
    assert any(json.loads(line)["subject"] == "package worker" for line in findings)
