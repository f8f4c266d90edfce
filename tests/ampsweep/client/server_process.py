"""Runs `ampsweep serve` as a process, and stops it with everything that it started."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 90 * float(os.environ.get("AMPSWEEP_STALL_FACTOR", "1"))
"""How long a server may take to start its engine; AMPSWEEP_STALL_FACTOR multiplies it on a shared machine."""


@dataclass(frozen=True, kw_only=True)
class ServerProcess:
    """A server that runs: its URL and process."""

    url: str
    process: subprocess.Popen[str]


def server_process(model: Path, home: Path, *arguments: str) -> AbstractContextManager[ServerProcess]:
    """Run a server that offers `model` as `tiny` on the fake engine."""
    return server_running("tiny", home, "--no-atlas", "--engine", "fake", "--model", f"tiny={model}", *arguments)


@contextmanager
def server_running(name: str, home: Path, *arguments: str) -> Iterator[ServerProcess]:
    """Run a server with one model, called `name`, on a free port; its end is seen to in any case."""
    command = [sys.executable, "-m", "ampsweep.cli", "serve", "--port", "0", "--home", str(home), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        line = _first_line(process)
        assert re.match(rf"{name} at https?://127\.0\.0\.1:", line), f"the server said {line!r}"
        yield ServerProcess(url=line.split()[2], process=process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(START_SECONDS), "the server said nothing"
    return process.stdout.readline()
