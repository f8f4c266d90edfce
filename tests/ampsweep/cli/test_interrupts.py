"""Ctrl-C while a command is still importing modules: exit code 130, and no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ampsweep.bundled import ATLAS_MODEL

pytestmark = pytest.mark.processes

INTERRUPTED_IMPORT = """
import os, signal, sys

module = sys.argv.pop(1)

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from ampsweep.cli import main

main()
"""
GENERATE = ["generate", "Hello", "--engine", "transformers", "--model", str(ATLAS_MODEL)]


def run(module: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("typer", ["--version"]),
        ("ampsweep.cli.commands.run", ["run", "spec.yaml", "--out", "out"]),
        ("jobs.spec", ["run", "spec.yaml", "--out", "out"]),
        ("worker.memory", GENERATE),
        ("transformers", GENERATE),
    ],
)
def test_ctrl_c_during_an_import_is_code_130_without_a_traceback(
    module: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(module, arguments)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert len(done.stderr.splitlines()) <= 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_whose_parent_ignores_ctrl_c_ignores_it_too() -> None:
    script = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN){INTERRUPTED_IMPORT}"
    command = [sys.executable, "-c", script, "typer", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
