from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from time import process_time

import pytest

from ampsweep.errors import NotFound
from jobs.batches import lines
from jobs.batches.files import BatchFiles
from jobs.storage.local import LocalStorage


@pytest.fixture
def files(tmp_path: Path) -> BatchFiles:
    return BatchFiles(LocalStorage(tmp_path))


def test_the_lines_of_a_file_are_read_in_blocks_without_blank_ones(
    files: BatchFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK", 5)
    content = b'\xef\xbb\xbf{"a": 1}\n\n  \r\n{"b": "\xe2\x80\xa8"}\r\n{"c": 3}'
    assert files.save("file_1", BytesIO(content)) == len(content)
    assert list(files.lines("file_1")) == [b'{"a": 1}', b'{"b": "\xe2\x80\xa8"}\r', b'{"c": 3}']
    assert files.stored("file_1").read() == content
    with pytest.raises(NotFound):
        next(files.lines("file_2"))


def test_parts_are_listed_read_and_deleted_by_batch(files: BatchFiles) -> None:
    files.save_part("batch_1", 12, [{"line": {"text": "é"}}])
    files.save_part("batch_1", 0, [{"line": 1}, {"line": 2}])
    files.save_part("batch_10", 1, [])
    assert sorted(files.parts("batch_1")) == [0, 12]
    assert files.part("batch_1", 12) == [{"line": {"text": "é"}}]
    assert files.batch_ids() == {"batch_1", "batch_10"}
    files.delete_parts("batch_1")
    assert files.batch_ids() == {"batch_10"}


def test_rows_are_written_as_lines_and_none_as_no_file(files: BatchFiles) -> None:
    size = files.write("file_1", iter([{"text": "é"}, {"text": "b"}]))
    assert files.stored("file_1").read().decode() == '{"text": "é"}\n{"text": "b"}\n'
    assert size == files.stored("file_1").stat().size
    assert files.write("file_2", iter([])) == 0
    assert files.ids() == ["file_1"]


def test_a_line_of_the_output_is_one_line_however_clients_divide_it(files: BatchFiles) -> None:
    rows = [{"text": "a\x85b\u2028c\u2029d\x0b\x0c\x1c\re"}, {"text": "\N{LATIN SMALL LETTER E WITH ACUTE}"}]
    files.write("file_1", rows)
    text = files.stored("file_1").read().decode()
    assert [json.loads(line) for line in text.splitlines()] == rows
    assert "\N{LATIN SMALL LETTER E WITH ACUTE}" in text, "the rest can be read"


def test_a_quoted_lone_surrogate_is_stored_as_its_escape(files: BatchFiles) -> None:
    files.save_part("batch_1", 0, [{"param": "é\ud800"}])
    (row,) = files.part("batch_1", 0)
    assert row == {"param": "é\ud800"}
    files.write("file_1", [row])
    assert files.stored("file_1").read() == '{"param": "é\\ud800"}\n'.encode()


def test_a_long_line_is_joined_once() -> None:
    class Source:
        """65 MB in blocks of 64 KiB, without the end of a line."""

        blocks = 1000

        def read(self, size: int, /) -> bytes:
            self.blocks -= 1
            return b"x" * 65536 if self.blocks >= 0 else b""

    started = process_time()
    (line,) = lines.lines_of(Source())
    assert len(line) == 65_536_000
    assert process_time() - started < 3  # copying the line for each block takes ten times as long
