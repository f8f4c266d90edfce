from __future__ import annotations

from pathlib import Path

import pytest

from ampsweep.cli.commands.capture_job import read_texts
from ampsweep.domain.capture import CapturedText
from ampsweep.domain.generation.prompt import ChatMessage, TokenIds
from ampsweep.errors import InvalidRequest


def test_each_line_that_is_not_blank_is_a_text_with_the_number_of_its_line(tmp_path: Path) -> None:
    source = tmp_path / "texts.txt"
    source.write_bytes("\ufeff né \r\n\n \t\n通貨は".encode())
    first, second = read_texts(source)
    assert (first.line, first.param, first.text) == (1, "TEXTS.1", CapturedText(id="1", prompt=" né "))
    assert (second.line, second.param, second.text) == (4, "TEXTS.4", CapturedText(id="4", prompt="通貨は"))
    assert first.fields == {"id": "1", "prompt": " né "}
    assert second.fields == {"id": "4", "prompt": "通貨は"}


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "JSONL"])
def test_json_lines_are_read_as_they_are_sent_to_a_server(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / f"texts.{suffix}"
    source.write_bytes(
        b'\xef\xbb\xbf{"id": "one", "prompt": "ab", "completion": "c"}\n\n{"id": null, "prompt": [7, 8]}\n'
        b'{"messages": [{"role": "user", "content": "Hi"}]}\n'
    )
    texts = read_texts(source)
    assert [text.text for text in texts] == [
        CapturedText(id="one", prompt="ab", completion="c"),
        CapturedText(id="3", prompt=TokenIds((7, 8))),
        CapturedText(id="4", prompt=(ChatMessage(role="user", content="Hi"),)),
    ]
    assert [text.fields for text in texts] == [
        {"id": "one", "prompt": "ab", "completion": "c"},
        {"id": "3", "prompt": [7, 8]},
        {"id": "4", "messages": [{"role": "user", "content": "Hi"}]},
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"a\.txt has no text"),
        ("a.txt", b"a\n\xff\n", r"TEXTS\.2 is not UTF-8: invalid start byte; save the file in UTF-8"),
        ("a.txt", "a\nb\n".encode("utf-16"), r"TEXTS\.1 is not UTF-8: it is UTF-16; save the file in UTF-8"),
        (
            "a.jsonl",
            '{"prompt": "a"}\n'.encode("utf-16"),
            r"TEXTS\.1 is not UTF-8: it is UTF-16; save the file in UTF-8",
        ),
        (
            "a.jsonl",
            b'{"prompt": "\xe9"}\n',
            r"TEXTS\.1: the line is not valid JSON: it is not UTF-8 text; save it as UTF-8",
        ),
        ("a.txt", b"a\rb\n", r"TEXTS\.1: has a carriage return between two texts; save the file"),
        ("a.txt", b"\n\0a\n", r"TEXTS\.2: has a NUL character"),
        ("a.json", b'["a", "b"]', r"a\.json may be one document; .* the suffix \.jsonl"),
        ("a.jsonl", b"[1]\n", r"TEXTS\.1 must be an object"),
        ("a.jsonl", b'\n{"prompt": 1}\n', r"TEXTS\.2\.prompt: "),
        ("a.jsonl", b'{"prompt": "a", "prompt": "b"}\n', r"TEXTS\.1: "),
    ],
)
def test_a_line_that_is_wrong_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=message) as refused:
        read_texts(tmp_path / name)
    assert str(refused.value.param).startswith("TEXTS")


def test_an_endless_line_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampsweep.cli.commands.capture_job.MAX_LINE", 1024)
    with pytest.raises(InvalidRequest, match="give a shorter text") as refused:
        read_texts(Path("/dev/zero"))
    assert refused.value.param == "TEXTS.1"
