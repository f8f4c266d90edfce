"""Atomic writes: a file is published whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest, Unavailable
from ampsweep.files import atomic_write, check_folder, output_file, parquet_output, write_problem


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


def test_a_full_disk_is_reported_with_the_path_that_the_system_leaves_out(tmp_path: Path) -> None:
    target = tmp_path / "result.bin"
    with (
        pytest.raises(OSError, match=r"No space left on device: .*result\.bin") as full,
        atomic_write(target),
        Path("/dev/full").open("wb", buffering=0) as device,
    ):
        device.write(b"half")
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(target))
    assert write_problem(full.value) == "No space left on device; free some space on that disk"
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_says_nothing_about_the_target_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError) as lost, atomic_write(tmp_path / "result.bin"):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert lost.value.filename is None


def test_a_folder_on_a_full_disk_is_unavailable_and_not_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(Unavailable, match=f"cannot write to {tmp_path}: No space .*; free some space") as refused:
        check_folder(tmp_path / "out", param="out")
    assert refused.value.param == "out"


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_new_file_replaces_none(tmp_path: Path, hard_links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hard_links:

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, "not on this file system")

        monkeypatch.setattr("os.link", refuse)
    target = tmp_path / "result.bin"
    with atomic_write(target, replace=False) as temporary:
        temporary.write_bytes(b"first")
    with pytest.raises(FileExistsError), atomic_write(target, replace=False) as temporary:
        temporary.write_bytes(b"second")
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]
    assert target.stat().st_nlink == 1


def test_a_long_name_is_written_like_any_other(tmp_path: Path) -> None:
    target = tmp_path / f"{'名' * 83}.bin"  # 253 bytes
    with atomic_write(target) as temporary:
        temporary.write_bytes(b"all of it")
    assert target.read_bytes() == b"all of it"


def test_a_device_or_pipe_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InvalidRequest, match="is not a regular file"), atomic_write(pipe):
        pytest.fail("the block must not run")
    assert pipe.is_fifo()
    for path in (pipe, Path("/dev/null")):
        with pytest.raises(InvalidRequest, match="would be replaced by one; give the path of another file") as caught:
            output_file(path, param="out")
        assert caught.value.param == "out"


def test_an_output_file_is_checked_before_anything_is_computed(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("{}")
    (tmp_path / "link").symlink_to(source)
    assert output_file(tmp_path / "new", param="out", inputs=[source]) == tmp_path / "new"
    assert output_file(source, param="out") == source, "a file may be replaced"
    for path, reason in {
        tmp_path: "is a folder",
        source: "is one of the files to read",
        tmp_path / "link": "is one of the files to read",
        tmp_path / "nowhere" / "new": "the folder .*nowhere does not exist",
    }.items():
        with pytest.raises(InvalidRequest, match=reason):
            output_file(path, param="out", inputs=[source, tmp_path / "missing"])


def test_what_a_link_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "out.bin"
    link.symlink_to(tmp_path / "disk" / "out.bin")
    with atomic_write(output_file(link, param="out")) as temporary:
        temporary.write_bytes(b"all of it")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "out.bin").read_bytes() == b"all of it"


def test_a_link_that_leads_nowhere_is_an_error_before_anything_is_computed(tmp_path: Path) -> None:
    loop, broken = tmp_path / "loop", tmp_path / "broken"
    loop.symlink_to("loop")
    broken.symlink_to("nothing")
    with pytest.raises(InvalidRequest, match="is a symbolic link that leads back to itself; give the path of another"):
        output_file(loop, param="out")
    for folder in (loop, broken, broken / "below"):
        with pytest.raises(InvalidRequest, match="is a broken symbolic link; give another folder") as caught:
            check_folder(folder, param="out")
        assert caught.value.param == "out"


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


@pytest.mark.parametrize("name", ["out.csv", "out.JSONL", "out.xlsx"])
def test_a_parquet_file_is_not_named_as_another_format(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"would hold Parquet in spite of its name; name it .*out\.parquet") as no:
        parquet_output(tmp_path / name, param="out")
    assert no.value.param == "out"
    assert parquet_output(tmp_path / "out.parquet", param="out") == tmp_path / "out.parquet"
    assert parquet_output(tmp_path / "out", param="out") == tmp_path / "out"
