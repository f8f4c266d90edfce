"""Distributions with plug-ins for tests: the one of docs/bring-a-task.md, and others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "bring-a-task.md"


def install_page_plugin(folder: Path) -> Path:
    """Build and install the distribution of the page with pip, without a network; return its folder."""
    source, target = folder / "yes-no", folder / "site"
    (config,) = blocks(PAGE, "toml")
    for name, text in [
        ("pyproject.toml", config.text),
        *((block.title, block.text) for block in blocks(PAGE, "python")),
    ]:
        assert name is not None, "each block of Python says which file it is"
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (source / "ampsweep_yes_no" / "__init__.py").touch()
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, capture_output=True)
    return target


def write_distribution(
    folder: Path, name: str, code: str, *, tasks: str = "", metrics: str = "", version: str = "1.0"
) -> None:
    """Write an installed distribution with one module, whose name is its own with underscores.

    `tasks` and `metrics` are the lines of the entry points, with MODULE for the module's name.
    """
    module = name.replace("-", "_")
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    entry_points = f"[ampsweep.tasks]\n{tasks}\n[ampsweep.metrics]\n{metrics}\n"
    (info / "entry_points.txt").write_text(entry_points.replace("MODULE", module))
