"""What a process hands on with a call to another: the ids in its log's lines, and its current span."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from ampsweep.telemetry.logs import LogSettings, start_logs
from ampsweep.telemetry.traces import collector, trace_headers


@dataclass(frozen=True, kw_only=True)
class TelemetryContext:
    """The context of a call: `ids` stand in the log's lines, `trace` are the headers that name the caller's span."""

    ids: Mapping[str, Any] = field(default_factory=dict)
    trace: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def now(cls) -> TelemetryContext:
        """Return the context as it is."""
        return cls(ids=structlog.contextvars.get_contextvars(), trace=trace_headers())

    def enter(self) -> None:
        """Take over the ids, for as long as the running task lives."""
        structlog.contextvars.bind_contextvars(**self.ids)


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """How the processes of one installation log, and where their spans go (None: nowhere)."""

    logs: LogSettings = field(default_factory=LogSettings)
    otlp_endpoint: str | None = None

    def start(self, *, service: str, instance: str) -> None:
        """Begin, in this process."""
        start_logs(self.logs)
        if self.otlp_endpoint is not None:
            collector(self.otlp_endpoint, service=service, instance=instance)
