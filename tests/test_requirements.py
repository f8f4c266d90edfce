"""The locks of the set-up agree with each other and with what the project asks for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EXTRAS = {"demo": ("server", "cpu", "tasks"), "cpu": ("server", "cpu", "tasks", "dev")}


def lines_of(lock: str) -> list[str]:
    return (ROOT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8").splitlines()


def test_the_demo_installs_nothing_that_the_tests_do_not() -> None:
    assert set(lines_of("demo")) < set(lines_of("cpu")), "run make lock"


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_has_what_the_project_asks_for(lock: str) -> None:
    locked: dict[str, list[str]] = {}
    for requirement in map(Requirement, lines_of(lock)):
        locked.setdefault(requirement.name, []).append(str(requirement.specifier).removeprefix("=="))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [
        line for extra in EXTRAS[lock] for line in project["optional-dependencies"][extra]
    ]
    for requirement in map(Requirement, wanted):
        if requirement.name != "ampsweep":
            versions = locked.get(requirement.name, [])
            assert any(requirement.specifier.contains(version, prereleases=True) for version in versions), requirement
