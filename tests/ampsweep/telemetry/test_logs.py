"""The content of log lines, and what they must never contain."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog

from ampsweep.errors import EngineFailed
from ampsweep.telemetry.logs import LogSettings, describe, start_logs

log = logging.getLogger("worker.somewhere")


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()


def lines(stream: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_time_logger_message_and_bound_ids() -> None:
    stream = StringIO()
    start_logs(LogSettings(format="json"), stream)
    with structlog.contextvars.bound_contextvars(sweep_ids=["sweep_1"], cell_id="c1"):
        log.info("the cell %s", "ended", extra={"samples": 3, "taskName": "never asked for"})
    log.warning("nothing is bound")
    first, second = lines(stream)
    assert {key: first[key] for key in first.keys() - {"timestamp"}} == {
        "event": "the cell ended",
        "level": "info",
        "logger": "worker.somewhere",
        "sweep_ids": ["sweep_1"],
        "cell_id": "c1",
        "samples": 3,
    }
    assert first["timestamp"].endswith("Z")
    assert "cell_id" not in second


def test_colours_are_for_terminals_whose_user_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    def logged(stream: StringIO) -> str:
        start_logs(LogSettings(format="console"), stream)
        log.warning("careful")
        return stream.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in logged(Terminal())
    assert "\x1b[" not in logged(StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in logged(Terminal())


def test_other_packages_log_warnings_and_ours_from_the_level_on() -> None:
    stream = StringIO()
    start_logs(LogSettings(format="json", level="error"), stream)
    logging.getLogger("elsewhere").info("chatter")
    logging.getLogger("elsewhere").warning("careful")
    log.warning("quiet")
    log.error("loud")
    assert [line["event"] for line in lines(stream)] == ["careful", "loud"]
    start_logs(LogSettings(format="json", level="debug"), stream)
    log.debug("finest")
    assert lines(stream)[-1]["event"] == "finest"


@pytest.mark.parametrize("form", ["console", "json"])
def test_keys_and_passwords_are_redacted(form: Any) -> None:
    stream = StringIO()
    start_logs(LogSettings(format=form), stream)
    key = "amp_0123456789ab_" + "A" * 43
    log.warning("postgresql://ampsweep:hunter2@db:5432/x with %s, Authorization: Bearer sesame", key)
    text = stream.getvalue()
    for secret in (key, "hunter2", "sesame"):
        assert secret not in text
    assert "postgresql://ampsweep:***@db:5432/x" in text


@pytest.mark.parametrize("form", ["console", "json"])
def test_foreign_exceptions_are_logged_without_their_message(form: Any) -> None:
    stream = StringIO()
    start_logs(LogSettings(format=form), stream)
    prompt = "xyzzy"
    try:
        try:
            int(prompt)
        except ValueError as error:
            raise EngineFailed("the engine failed") from error
    except EngineFailed:
        log.exception("it went wrong")
    text = stream.getvalue()
    assert "xyzzy" not in text.replace('prompt = "xyzzy"', "")
    assert "test_foreign_exceptions_are_logged" in text
    assert "ValueError" in text
    assert "EngineFailed: the engine failed" in text


def test_messages_of_the_operating_system_are_logged() -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        Path("/nowhere/at/all").read_bytes()
    assert "No such file or directory: /nowhere/at/all" in describe(caught.value)


def test_exception_groups_are_described_whole_and_cycles_end() -> None:
    inner = ValueError("xyzzy")
    group = ExceptionGroup("two", [inner, OSError(28, "No space left on device")])
    inner.__cause__ = group
    description = describe(group)
    assert "No space left on device" in description
    assert "ValueError" in description
    assert "xyzzy" not in description
