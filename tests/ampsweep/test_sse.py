"""Server-sent events, read by the letter of the standard."""

from __future__ import annotations

from ampsweep.sse import ServerEvent, server_events


def test_an_event_has_id_type_and_data() -> None:
    lines = ["id: 7", "event: cell.completed", 'data: {"a": 1}', ""]
    assert list(server_events(lines)) == [ServerEvent(id="7", type="cell.completed", data='{"a": 1}')]


def test_data_of_several_lines_is_joined_and_ids_stay() -> None:
    lines = ["id: 1", "data: a", "data:b", "", "data: c", ""]
    assert [(event.id, event.type, event.data) for event in server_events(lines)] == [
        ("1", "message", "a\nb"),
        ("1", "message", "c"),
    ]


def test_comments_and_blank_lines_are_no_events() -> None:
    assert list(server_events([": ping", "", "", "event: only", ""])) == []


def test_an_event_that_was_cut_off_is_dropped() -> None:
    assert list(server_events(["id: 3", "data: half"])) == []
