"""Ctrl-C and SIGTERM: a word at once, an orderly end, and a second Ctrl-C that does not wait."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from ampsweep.cli.terminal.running import INTERRUPTED, STOPPING, TERMINATED, run_to_end

pytestmark = pytest.mark.processes

STOPS_SLOWLY = """
import asyncio, sys, time
import typer
from ampsweep.cli.terminal.running import run_to_end

async def body():
    print("started", flush=True)
    try:
        await asyncio.to_thread(time.sleep, 0.5) if sys.argv[1] == "thread" else await asyncio.sleep(60)
        await asyncio.sleep(60)
    finally:
        if sys.argv[1] == "hangs":
            await asyncio.sleep(60)
        print("saved", flush=True)

try:
    run_to_end(body())
except KeyboardInterrupt:
    sys.exit(130)
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


def stopped(how: str, signals: Sequence[int]) -> tuple[int, str, str]:
    """Return exit code, output and errors of a command that gets signals, the next one after a line was printed."""
    command = [sys.executable, "-c", STOPS_SLOWLY, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "started\n"
        said = ""
        for number in signals:
            process.send_signal(number)
            said += process.stderr.readline() if number == signal.SIGINT and not said else ""
        out, errors = process.communicate(timeout=30)
    return process.returncode, out, said + errors


@pytest.mark.parametrize("how", ["task", "thread"])
def test_ctrl_c_is_acknowledged_and_ends_the_body(how: str) -> None:
    assert stopped(how, [signal.SIGINT]) == (INTERRUPTED, "saved\n", f"{STOPPING}\n")


def test_a_second_ctrl_c_does_not_wait() -> None:
    assert stopped("hangs", [signal.SIGINT, signal.SIGINT]) == (INTERRUPTED, "", f"{STOPPING}\n")


def test_sigterm_ends_the_body_without_a_word() -> None:
    assert stopped("task", [signal.SIGTERM]) == (TERMINATED, "saved\n", "")


def test_a_body_that_ends_gives_its_result_and_the_handlers_back() -> None:
    async def body() -> int:
        return 3

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run_to_end(body()) == 3
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
