"""The telemetry context that a process passes to another with a call: log ids and the current span."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from ampsweep.telemetry.library_output import can_divert, divert
from ampsweep.telemetry.logs import LogSettings, start_logs
from ampsweep.telemetry.traces import collector, trace_headers


@dataclass(frozen=True, kw_only=True)
class TelemetryContext:
    """Context of a call: `ids` are added to log lines; `trace` holds the headers that identify the caller's span."""

    ids: Mapping[str, Any] = field(default_factory=dict)
    trace: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def now(cls) -> TelemetryContext:
        """Return the current context."""
        return cls(ids=structlog.contextvars.get_contextvars(), trace=trace_headers())

    def attach(self) -> None:
        """Bind the ids to the log context of the running task."""
        structlog.contextvars.bind_contextvars(**self.ids)


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Telemetry settings of all processes.

    Attributes:
        logs: How the log is written.
        otlp_endpoint: The collector of the spans; without one no spans are made.
        library_log: The file to which processes on this machine append what their libraries print; None leaves that
            where the process prints itself.
    """

    logs: LogSettings = field(default_factory=LogSettings)
    otlp_endpoint: str | None = None
    library_log: Path | None = None

    def start(self, *, service: str, instance: str) -> None:
        """Start logging and tracing in this process."""
        if self.library_log is not None and can_divert():
            divert(self.library_log)
        start_logs(self.logs)
        if self.otlp_endpoint is not None:
            collector(self.otlp_endpoint, service=service, instance=instance)
