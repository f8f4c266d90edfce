"""Server-sent events are parsed as the standard says."""

from __future__ import annotations

import pytest

from ampsweep.client.http.sse import EventReader, ServerEvent


def events(text: str, *, size: int = 10_000) -> list[ServerEvent]:
    """Read a stream that comes in blocks of so many bytes."""
    stream, reader = text.encode(), EventReader()
    blocks = [stream[index : index + size] for index in range(0, len(stream), size)]
    return [event for block in blocks for event in reader.feed(block)]


def test_an_event_has_id_type_and_data() -> None:
    text = 'id: 7\nevent: cell.completed\ndata: {"a": 1}\n\n'
    assert events(text) == [ServerEvent(id="7", type="cell.completed", data='{"a": 1}')]


def test_data_of_several_lines_is_joined_and_ids_stay() -> None:
    parsed = events("id: 1\ndata: a\ndata:b\n\ndata: c\n\n")
    assert [(event.id, event.type, event.data) for event in parsed] == [("1", "message", "a\nb"), ("1", "message", "c")]


@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blocks_may_end_anywhere_and_lines_in_three_ways(end: str, size: int) -> None:
    parsed = events(f"id: 1{end}data: エジプト{end}{end}id: 2{end}data: b{end}{end}", size=size)
    assert [(event.id, event.data) for event in parsed] == [("1", "エジプト"), ("2", "b")]


def test_other_separators_are_text() -> None:
    text = "a\u2028b\x85c\x0bd\x1ce"
    assert [event.data for event in events(f"data: {text}\n\n")] == [text]


def test_comments_and_blank_lines_are_no_events() -> None:
    assert events(": ping\n\n\nevent: only\n\n") == []


def test_an_event_that_was_cut_off_is_dropped() -> None:
    assert events("id: 3\ndata: half\n") == []
