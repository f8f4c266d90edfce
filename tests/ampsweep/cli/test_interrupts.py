"""Signals that end a command at any time, and standard streams that are closed: no traceback, and nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ampsweep.bundled import ATLAS_MODEL

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("hangups_are_handled")]


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
        ("worker.resources.memory", GENERATE),
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


OWN_COMMAND = """
import sys, types
from ampsweep.cli import main
from ampsweep.cli.app import COMMANDS

def run_as_command(function):
    module = sys.modules["ampsweep.cli.commands.own"] = types.ModuleType("own")
    module.command = function
    COMMANDS["own"] = "own.command"
    main()
"""
"""Defines `run_as_command`, which runs a function as the command `own` of the program."""

HOLDS_A_FILE = f"""{OWN_COMMAND}
import time
from pathlib import Path
from ampsweep.files import atomic_write

def hold(path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        print("holding", flush=True)
        time.sleep(60)

run_as_command(hold)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_that_writes_a_file_and_leaves_no_half_of_it(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HOLDS_A_FILE, "own", str(tmp_path / "file")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (code, "")
    assert list(tmp_path.iterdir()) == []


PRINTS = f"""{OWN_COMMAND}
import os
from ampsweep.cli.terminal.output import echo, show
from ampsweep.cli.terminal.progress import ProgressDisplay

def say(path: str) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(number, b"content")
    with ProgressDisplay("work") as display:
        display.show(1, 2)
    show({{"a": 1}}, "text", as_json=True)
    echo("warning", err=True)
    os.write(1, b"from a library")
    os.write(2, b"from a library")
    sys.stdin.read()

run_as_command(say)
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_swallow_what_is_printed_and_no_file_takes_their_place(closed: str, tmp_path: Path) -> None:
    command = ["sh", "-c", f'"$0" -c "$1" own "$2" {closed}', sys.executable, PRINTS, str(tmp_path / "file")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_bytes() == b"content"
    assert (b'{"a": 1}' in done.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert (b"warning" in done.stderr) == ("2>&-" not in closed)
