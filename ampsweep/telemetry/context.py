"""The telemetry context that a process passes to another with a call: log ids and the current span."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

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
    """Telemetry settings of all processes. Without `otlp_endpoint` no spans are made."""

    logs: LogSettings = field(default_factory=LogSettings)
    otlp_endpoint: str | None = None

    def start(self, *, service: str, instance: str) -> None:
        """Start logging and tracing in this process."""
        start_logs(self.logs)
        if self.otlp_endpoint is not None:
            collector(self.otlp_endpoint, service=service, instance=instance)
