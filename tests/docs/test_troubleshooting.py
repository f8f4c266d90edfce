"""The page on troubleshooting quotes messages that the program has."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import DOCS, ROOT

SOURCE = "".join(
    file.read_text(encoding="utf-8")
    for package in ("ampsweep", "api", "jobs", "worker", "engine")
    for file in (ROOT / package).rglob("*.py")
)
ROWS = re.findall(r"^\| (.+?) \|", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
MESSAGES = [quote for row in ROWS for quote in re.findall(r"`([^`]+)`", row) if quote.count(" ") > 1]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_in_the_source(message: str) -> None:
    for part in message.split("…"):
        assert part.strip(" ;,") in SOURCE, part


def test_messages_are_found() -> None:
    assert "not enough memory: … will be allocated" in MESSAGES
    assert len(MESSAGES) >= 8
