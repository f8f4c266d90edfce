"""Server-sent events, read from the lines of a response (the event stream format of the HTML standard)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServerEvent:
    """One dispatched event; `id` is the last one seen on the stream, empty if none was."""

    id: str
    type: str
    data: str


def server_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """Yield the events of a stream. One that is cut off before its empty line is dropped, as the standard asks."""
    last_id, kind, data = "", "", list[str]()
    for line in lines:
        if not line:
            if data:
                yield ServerEvent(id=last_id, type=kind or "message", data="\n".join(data))
            kind, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            kind = value
        elif field == "id":
            last_id = value
