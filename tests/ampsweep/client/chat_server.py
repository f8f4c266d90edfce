"""A small HTTP server that answers chats as an OpenAI-compatible endpoint does, with replies that a test chooses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class HttpReply:
    """A response: its status, its body (JSON, or text as it is) and its headers."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class ChatServer:
    """The running server: its base URL, and the bodies and headers of the requests so far."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def completion(text: str | None) -> HttpReply:
    """Return the response with a completion."""
    return HttpReply(body={"choices": [{"message": {"role": "assistant", "content": text}}]})


@contextmanager
def chat_server(reply: Callable[[dict[str, Any]], HttpReply]) -> Iterator[ChatServer]:
    """Run a server whose response to a request body is `reply(body)`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            running.requests.append({**body, "path": self.path})
            running.headers.append(dict(self.headers))
            chosen = reply(body)
            content = chosen.body if isinstance(chosen.body, str) else json.dumps(chosen.body)
            self.send_response(chosen.status)
            for name, value in {**chosen.headers, "Content-Length": str(len(content.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name of the parent's)
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = ChatServer(url=f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
