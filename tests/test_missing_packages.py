"""`requirements/install.sh` installs only what the environment lacks."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

SCRIPT = Path(__file__).parents[1] / "requirements" / "missing.py"


def missing(folder: Path, *lines: str) -> list[str]:
    lock = folder / "test.lock"
    lock.write_text("\n".join(lines) + "\n")
    ended = subprocess.run([sys.executable, SCRIPT, lock], capture_output=True, text=True, check=True)
    return ended.stdout.splitlines()


def test_only_packages_that_are_not_there_in_this_version_are_listed(tmp_path: Path) -> None:
    present = f"typer=={metadata.version('typer')}"
    lines = (present, "typer==0.0.1", "no-such-package-here==1.0", "no-such-package==1 ; python_version < '3'")
    assert missing(tmp_path, *lines) == ["typer==0.0.1", "no-such-package-here==1.0"]
    assert missing(tmp_path, present) == []
