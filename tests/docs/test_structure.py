"""The page on the structure lists what each package contains; paths that pages name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ampsweep.version import __version__
from tests.docs.pages import DOCS, ROOT

PACKAGES = ("ampsweep", "api", "jobs", "worker", "engine", "benchmarks")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
_MADE = ("deploy/site.env", "benchmarks/results/", "benchmarks/results/gpu-CARD.json")
"""Files and folders that the reader or a command makes."""


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_of_a_package_is_listed_and_no_other(package: str) -> None:
    text = (DOCS / "structure.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {package}/\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| ")]
    listed = {name for row in rows for name in re.findall(r"`([\w./]+)`", row)}
    contents = [path for path in (ROOT / package).iterdir() if not path.name.startswith(("_", "."))]
    present = {path.name for path in contents if path.suffix == ".py"} | {
        f"{path.name}/"
        for path in contents
        if path.is_dir() and any(path.iterdir()) and f"{package}/{path.name}/" not in _MADE
    }
    assert listed == present


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_on_a_page_exist(page: Path) -> None:
    folders = "|".join((*PACKAGES, "tests", "deploy", "examples", "docs", "requirements"))
    paths = re.findall(rf"`((?:{folders})/[\w./-]+\.\w+|(?:{folders})/[\w/-]+/)`", page.read_text(encoding="utf-8"))
    assert [path for path in paths if path not in _MADE and not (ROOT / path).exists()] == []


def test_the_citation_names_this_version() -> None:
    assert re.findall(r"version = \{(.*)\}", (ROOT / "README.md").read_text(encoding="utf-8")) == [__version__]
