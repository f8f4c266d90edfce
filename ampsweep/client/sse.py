"""Server-sent events, read from the bytes of a response (the event stream format of the HTML standard)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
"""The standard's own: a text may well hold other characters at which Python, or httpx, would end a line."""


@dataclass(frozen=True, kw_only=True)
class ServerEvent:
    """One dispatched event; `id` is the last one seen on the stream, empty if none was."""

    id: str
    type: str
    data: str


class EventReader:
    """Reads a stream that comes in blocks. An event that is cut off before its empty line is dropped, as asked."""

    def __init__(self) -> None:
        self._rest = b""
        self._after_return = False
        self._last_id = ""
        self._kind = ""
        self._data: list[str] = []

    def feed(self, block: bytes) -> Iterator[ServerEvent]:
        """Yield the events that end in the next bytes of the stream."""
        if self._after_return and block.startswith(b"\n"):
            block = block[1:]
        self._after_return = block.endswith(b"\r")
        *lines, self._rest = _LINE_END.split(self._rest + block)
        for line in lines:
            if line:
                self._take(line.decode("utf-8", "replace"))
                continue
            if self._data:
                yield ServerEvent(id=self._last_id, type=self._kind or "message", data="\n".join(self._data))
            self._kind, self._data = "", []

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._kind = value
        elif field == "id":
            self._last_id = value
