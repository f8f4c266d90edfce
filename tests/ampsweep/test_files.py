"""Atomic writes: a file is published whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ampsweep.files import atomic_write


def test_the_name_appears_with_the_whole_content(tmp_path: Path) -> None:
    target = tmp_path / "result.bin"
    with atomic_write(target) as temporary:
        temporary.write_bytes(b"all of it")
        assert temporary.parent == tmp_path
        assert not target.exists()
    assert target.read_bytes() == b"all of it"
    assert list(tmp_path.iterdir()) == [target]
    assert target.stat().st_mode & 0o777 == 0o644


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    target = tmp_path / "result.bin"
    target.write_bytes(b"old")
    with target.open("rb") as reader:
        with atomic_write(target) as temporary:
            temporary.write_bytes(b"new")
        assert reader.read() == b"old"
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "result.bin"
    target.write_bytes(b"old")
    with pytest.raises(error):
        _write_half(target, error)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def _write_half(target: Path, error: type[BaseException]) -> None:
    with atomic_write(target) as temporary:
        temporary.write_bytes(b"half")
        raise error


def test_a_missing_folder_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "nowhere" / "result.bin"):
        pytest.fail("the block must not run")


@pytest.mark.processes
def test_a_killed_writer_publishes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "result.bin"
    target.write_bytes(b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from ampsweep.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(target)], check=False, env=dict(os.environ))
    assert ended.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
