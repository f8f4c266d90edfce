"""Ctrl-C, SIGTERM and a closed terminal: an orderly end, a word at Ctrl-C, and a second Ctrl-C that does not wait."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ampsweep.cli.terminal.running import HUNG_UP, INTERRUPTED, STOP_SIGNALS, STOPPING, TERMINATED, run_to_end

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("hangups_are_handled")]


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGHUP, HUNG_UP)])
def test_sigterm_and_sighup_end_the_body_without_output(number: signal.Signals, code: int) -> None:
    assert stopped("task", [number]) == (code, "saved\n", "")


ON_A_TERMINAL = """
import asyncio, pathlib, sys
import typer
from ampsweep.cli.terminal.output import echo
from ampsweep.cli.terminal.running import run_to_end

async def body():
    echo("started")
    try:
        await asyncio.sleep(60)
    finally:
        echo("saving", err=True)
        pathlib.Path(sys.argv[1]).write_text("saved")

try:
    run_to_end(body())
except typer.Exit as end:
    echo("stopped", err=True)
    sys.exit(end.exit_code)
"""


def test_a_closed_terminal_ends_the_body_although_nothing_can_be_printed_any_more(tmp_path: Path) -> None:
    process, terminal = pty.fork()
    if not process:
        os.execv(sys.executable, [sys.executable, "-c", ON_A_TERMINAL, str(tmp_path / "file")])
    assert os.read(terminal, 100).startswith(b"started")
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == HUNG_UP
    assert (tmp_path / "file").read_text() == "saved"


def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def body() -> object:
        signal.raise_signal(signal.SIGHUP)
        return signal.getsignal(signal.SIGHUP)

    try:
        assert run_to_end(body()) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_body_that_ends_gives_its_result_and_the_handlers_back() -> None:
    async def body() -> int:
        return 3

    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    assert run_to_end(body()) == 3
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
