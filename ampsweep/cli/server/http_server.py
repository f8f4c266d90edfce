"""The HTTP server inside this process: its socket, its end by a signal. What it serves is put in."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ampsweep.errors import InvalidRequest

DRAIN_SECONDS = 5
"""How long open connections may go on after the server was told to stop."""

STALLED_SECONDS = 60
"""How long the kernel keeps what a client does not take; then the connection is gone, and all that was held for it."""

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; InvalidRequest where the address cannot be had. Port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port with --port"
        raise InvalidRequest(message, param="port") from error
    try:  # connections inherit it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000)
    except BaseException:
        listening.close()
        raise
    return listening


class HttpServer(uvicorn.Server):
    """A server that a signal stops in order (`stopped_by`); a second signal does not wait for connections."""

    def __init__(self, app: FastAPI, *, tls_cert: Path | None = None, tls_key: Path | None = None) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=DRAIN_SECONDS,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=tls_cert,
            ssl_keyfile=tls_key,
        )
        if tls_cert is not None:
            _load_tls(config)
        super().__init__(config)
        self.stopped_by: signal.Signals | None = None

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM, also while what lies around the serving is being started or ended."""
        before = {number: signal.getsignal(number) for number in _STOPPING}
        self.hear_signals()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def hear_signals(self) -> None:
        """Take the signals (again): a library that was started since may have put its own handlers in."""
        for number in _STOPPING:
            signal.signal(number, self._on_signal)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `stopped_by_signals`: the base class would raise them again, and end us half-way."""
        yield

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self.stopped_by = signal.Signals(number)


def _load_tls(config: uvicorn.Config) -> None:
    """Read certificate and key now, so that a wrong one stops the start by its name."""
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        message = f"{config.ssl_certfile} and its key cannot be used for TLS: {error}"
        raise InvalidRequest(message, param="tls_cert") from error
