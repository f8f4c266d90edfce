"""What libraries print goes to a log file, however they print it; a process's own lines stay where they were."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ampsweep.telemetry.library_output import KEPT_LOGS, can_divert, log_file

PRINTS = """
import logging, os, subprocess, sys, warnings
from pathlib import Path
from ampsweep.telemetry.library_output import divert, library_log, own_stream
path = Path(sys.argv[1])
divert(None if sys.argv[2] == "verbose" else path)
print("named before anything is printed:", library_log(), file=own_stream())
if sys.argv[2] != "silent":
    warnings.warn("a FutureWarning", FutureWarning)
    logging.getLogger("vllm").warning("Triton is installed, but")
    print("printed")
    os.write(1, b"from C, to standard output\\n")
    os.write(2, b"from C, to standard error\\n")
    subprocess.run([sys.executable, "-c", "import sys; print('from a worker', file=sys.stderr)"])
    print("named:", library_log() == path, file=own_stream())
print("the text", file=own_stream())
print("an own line", file=own_stream(err=True))
"""
NOTICES = (
    "a FutureWarning",
    "Triton is installed, but",
    "printed",
    "from C, to standard output",
    "from C, to standard error",
    "from a worker",
)


def printed(path: Path, how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PRINTS, str(path), how]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.processes
def test_libraries_print_to_the_log_and_the_process_to_its_streams(tmp_path: Path) -> None:
    log = tmp_path / "some.log"
    ended = printed(log, "quiet")
    assert ended.stdout == "named before anything is printed: None\nnamed: True\nthe text\n"
    assert ended.stderr == "an own line\n"
    content = log.read_text()
    assert [notice for notice in NOTICES if notice not in content] == []
    assert log.stat().st_mode & 0o077 == 0, "other users cannot read it"


@pytest.mark.processes
def test_verbose_libraries_print_to_standard_error_alone(tmp_path: Path) -> None:
    ended = printed(tmp_path / "some.log", "verbose")
    assert ended.stdout == "named before anything is printed: None\nnamed: False\nthe text\n"
    assert [notice for notice in NOTICES if notice not in ended.stderr] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.processes
def test_a_log_in_which_nothing_was_printed_is_deleted(tmp_path: Path) -> None:
    code = f"import os\nfrom pathlib import Path\npath = Path({str(tmp_path)!r}) / f'generate-{{os.getpid()}}.log'\n"
    code += "from ampsweep.telemetry.library_output import divert\ndivert(path)\nassert path.exists()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert list(tmp_path.iterdir()) == []


def test_streams_without_descriptors_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert not can_divert()


def test_a_folder_keeps_the_newest_logs(tmp_path: Path) -> None:
    for number in range(KEPT_LOGS + 5):
        log = tmp_path / f"generate-{number}.log"
        log.write_text("a notice")
        os.utime(log, (number, number))
    (tmp_path / "other.txt").write_text("not a log")
    path = log_file(tmp_path, "run")
    assert path.name.startswith("run-")
    assert path.name.endswith(f"-{os.getpid()}.log")
    kept = {int(log.stem.rpartition("-")[2]) for log in tmp_path.glob("generate-*.log")}
    assert kept == set(range(6, KEPT_LOGS + 5)), "with the new one, as many as are kept"


def test_a_folder_that_cannot_be_made_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = log_file(tmp_path / "file" / "logs", "generate")
    assert path.parent.is_dir()
    assert path.parent.name.startswith("ampsweep-logs-")
    path.parent.rmdir()


def test_without_a_folder_the_log_is_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = log_file(None, "run")
    assert path.parent.parent == tmp_path
    assert path.parent.is_dir()
