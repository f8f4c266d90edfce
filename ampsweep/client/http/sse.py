"""Parser of server-sent events (the event stream format of the HTML standard)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServerEvent:
    """A dispatched event. `id` is the last id seen on the stream, or empty if there was none."""

    id: str
    type: str
    data: str


class EventReader:
    """Parses a stream that arrives in blocks. Discards an event without its final empty line, as the standard says."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # parts of a line whose end has not arrived
        self._after_return = False
        self._last_id = ""
        self._kind = ""
        self._data: list[str] = []

    def feed(self, block: bytes) -> Iterator[ServerEvent]:
        """Yield the events that the next bytes of the stream complete."""
        if self._after_return and block.startswith(b"\n"):
            block = block[1:]
        self._after_return = block.endswith(b"\r")
        for part in block.splitlines(keepends=True):  # of bytes: at the line ends of the standard alone
            self._line.append(part)
            if not part.endswith((b"\r", b"\n")):
                return
            line = b"".join(self._line).rstrip(b"\r\n")
            self._line.clear()
            if line:
                self._add_line(line.decode("utf-8", "replace"))
                continue
            if self._data:
                yield ServerEvent(id=self._last_id, type=self._kind or "message", data="\n".join(self._data))
            self._kind, self._data = "", []

    def _add_line(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._kind = value
        elif field == "id":
            self._last_id = value
