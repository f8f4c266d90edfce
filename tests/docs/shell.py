"""Runs the shell blocks of a page in order, in one shell and one folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import blocks


def run_page(page: Path, folder: Path) -> str:
    """Run all of a page's shell blocks but those it says are not run; return what they printed.

    Fails where a command does, with the end of what it said. torch.compile is off: it would compile each page's own
    copy of the model for half a minute. vLLM says what it can, none of which may be among what is printed.
    """
    commands = [block.text for block in blocks(page, "sh") if block.not_run is None]
    assert commands, f"{page.name} has no commands"
    return run_commands("".join(commands), folder, page.name)


def run_commands(commands: str, folder: Path, name: str) -> str:
    """Run commands as `run_page` does; `name` is that of the page."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", commands],
        env={**os.environ, "PATH": path, "TORCH_COMPILE_DISABLE": "1", "VLLM_LOGGING_LEVEL": "INFO"},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{name}: {ended.stdout[-1000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout
