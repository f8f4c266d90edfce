"""Structured logs: one line per event, as JSON or for a console, with the ids of the request, sweep and cell.

All lines go through the standard library's loggers, including those of other packages. Values bound to the context
(`request_id`, `sweep_ids`, `cell_id`) are added to each line. API keys and passwords are masked. For exceptions of
other packages the log holds the stack but never the message, which may repeat a prompt.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, TextIO

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

from ampsweep.errors import AmpsweepError
from ampsweep.telemetry.library_output import is_diverted, own_stream
from ampsweep.telemetry.traces import current_ids

OURS = ("ampsweep", "api", "engine", "jobs", "worker")
FIELDS = (
    "caller",
    "cells",
    "code",
    "ending",
    "engine",
    "epoch",
    "method",
    "model",
    "neuron_set",
    "route",
    "samples",
    "seconds",
    "status",
    "sweep_ids",
    "tries",
)
"""Extra fields that a line may have: `log.info(..., extra={...})`. Others are dropped."""

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

Event = MutableMapping[str, Any]

_SECRETS = (
    (re.compile(r"amp_[0-9a-f]{12}_[0-9A-Za-z_-]{43}"), "amp_***"),
    (re.compile(r"(?i)(bearer|basic)\s+[^\s\"'\\,}]+"), r"\1 ***"),
    (re.compile(r"(://[^\s:/@\"']*):[^\s@/\"']+@"), r"\1:***@"),
)


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """Log settings of a process. Sent to the processes of the engines too."""

    format: LogFormat = "console"
    level: LogLevel = "info"


def start_logs(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Start logging to a stream, by default standard error; other packages log warnings and errors only.

    Warnings of the module `warnings` are logged too, unless what libraries print is diverted to a file.
    """
    target = own_stream(err=True) if stream is None else stream
    handler = logging.StreamHandler(target)
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    if settings.format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=target.isatty() and not os.environ.get("NO_COLOR"), exception_formatter=structlog.dev.plain_traceback
        )
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                _trace_ids,
                add_log_level,
                add_logger_name,
                ExtraAdder(allow=FIELDS),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[ProcessorFormatter.remove_processors_meta, _exception, renderer, _without_secrets],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(settings.level.upper())
    logging.captureWarnings(not is_diverted())


def describe(error: BaseException) -> str:
    """Return the stack of an exception and of its causes, with the messages of AmpsweepError and OSError only.

    Other messages may repeat the content of a request.
    """
    return "\n".join(_lines(error, set()))


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield from _lines(cause, seen)
        yield "which led to:"
    yield from (line.rstrip() for line in traceback.format_tb(error.__traceback__))
    yield _head(error)
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            if id(member) not in seen:
                yield from (f"  | {line}" for line in _lines(member, seen))


def _head(error: BaseException) -> str:
    name = type(error).__qualname__
    if isinstance(error, AmpsweepError):
        return f"{name}: {error.message}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}: {error.filename}" if error.filename else f"{name}: {error.strerror}"
    return f"{name} (its message may repeat a prompt, and is left out)"


def _exception(_logger: Any, _method: str, event: Event) -> Event:
    info = event.pop("exc_info", None)
    if info and info[1] is not None:
        event["exception"] = describe(info[1])
    return event


def _trace_ids(_logger: Any, _method: str, event: Event) -> Event:
    event.update(current_ids())
    return event


def _without_secrets(_logger: Any, _method: str, line: Any) -> str:
    shown = str(line)
    for pattern, replacement in _SECRETS:
        shown = pattern.sub(replacement, shown)
    return shown
