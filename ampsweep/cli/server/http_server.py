"""The HTTP server of this process: its socket, TLS and shutdown by signals. Does not know the app that it serves."""

from __future__ import annotations

import resource
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ampsweep.cli.terminal.running import acknowledge_interrupt, handled_signals
from ampsweep.errors import InvalidRequest
from ampsweep.telemetry.library_output import discard_output_of_lost_terminal

STOPPING = "stopping; a second Ctrl-C does not wait for open connections"
DRAIN_SECONDS = 5
"""Seconds that open connections have to finish after the server was told to stop."""

KEEP_ALIVE_SECONDS = 75
"""Seconds that an idle connection stays open: longer than clients (httpx: 5) and load balancers (commonly 60) keep one.

A server that closes connections first loses the requests that are sent on them just then.
"""

OPEN_FILES = 65_536
"""Number to which Ray raises the limit of open files, if the system allows so many."""

STALLED_SECONDS = 60
"""Seconds until the kernel drops a connection whose client does not acknowledge data."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise InvalidRequest if the address is not available. Port 0 selects a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port with --port"
        raise InvalidRequest(message, param="port") from error
    try:  # accepted connections inherit the option
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000)
    except BaseException:
        listening.close()
        raise
    return listening


def _max_connections() -> int:
    """Return the number of open connections from which on requests are answered with 503.

    The other half of the files that the process may open is for the database, results and engines: without any, the
    process loses its engines, and asyncio logs thousands of errors a second.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OPEN_FILES if limit == resource.RLIM_INFINITY else min(limit, OPEN_FILES)
    return max(2, files // 2)


class HttpServer(uvicorn.Server):
    """A server that a signal shuts down gracefully (`stopped_by`); a second signal does not wait for connections."""

    def __init__(self, app: FastAPI, *, tls_cert: Path | None = None, tls_key: Path | None = None) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=_max_connections(),
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
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
        self._handled = (*{signal.SIGINT, signal.SIGTERM, *handled_signals()},)

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Stop at a signal during the block, which includes start-up and shutdown around `serve`.

        The signals are SIGINT, SIGTERM and, unless it is ignored as under nohup, SIGHUP.
        """
        before = {number: signal.getsignal(number) for number in self._handled}
        self.hear_signals()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def hear_signals(self) -> None:
        """Install the signal handlers, again if a library has replaced them since."""
        for number in self._handled:
            signal.signal(number, self._on_signal)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: `stopped_by_signals` handles signals; the base class would raise them again."""
        yield

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        if number == signal.SIGINT and not self.force_exit:
            acknowledge_interrupt(STOPPING)
        if number == signal.SIGHUP:
            discard_output_of_lost_terminal()
        self.stopped_by = signal.Signals(number)


def _load_tls(config: uvicorn.Config) -> None:
    """Load certificate and key now, so that an error stops the start and names the file."""
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        message = f"{config.ssl_certfile} and its key cannot be used for TLS: {error}"
        raise InvalidRequest(message, param="tls_cert") from error
