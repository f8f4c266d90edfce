"""Temporary folders are deleted with their process, those of a killed process by the next one."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ampsweep.temporary import TemporaryFolder

HOLDS_ONE = """
from ampsweep.temporary import TemporaryFolder
folder = TemporaryFolder("test")
(folder.path / "file").write_text("content")
print(folder.path, flush=True)
input()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in place of the system's for temporary files, of child processes too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_is_empty_and_deleted_after_the_block(temporary: Path) -> None:
    with TemporaryFolder("test") as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").touch()
        assert next(temporary.iterdir()).name.startswith("ampsweep-test-")
    assert list(temporary.iterdir()) == []


def test_a_folder_is_deleted_with_its_object_or_earlier(temporary: Path) -> None:
    kept, dropped = TemporaryFolder("test"), TemporaryFolder("test")
    assert kept.path.is_dir()
    assert dropped.path.is_dir()
    del dropped
    gc.collect()
    assert len(list(temporary.iterdir())) == 1
    kept.delete()
    kept.delete()
    assert list(temporary.iterdir()) == []


@pytest.mark.processes
def test_the_folder_of_a_killed_process_is_deleted_by_the_next_and_that_of_a_living_one_is_not(temporary: Path) -> None:
    command = [sys.executable, "-c", HOLDS_ONE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        with TemporaryFolder("test"):
            assert (path / "file").read_text() == "content"
        process.kill()
        process.wait()
        assert path.is_dir(), "nobody could delete it"
    with TemporaryFolder("other"):
        assert path.is_dir(), "a folder of another kind is not looked at"
    with TemporaryFolder("test"):
        assert not path.exists()
    assert list(temporary.iterdir()) == []
