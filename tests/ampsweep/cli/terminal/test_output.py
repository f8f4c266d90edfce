"""Output to terminals and files whose encoding lacks characters, such as Latin-1."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ampsweep.cli import escape_what_cannot_be_printed
from ampsweep.cli.terminal.output import echo, show

TEXT = "エジプト 😀 é"


@contextmanager
def latin_1_output() -> Iterator[io.BytesIO]:
    """Let standard output be in Latin-1, as the command line sets it up, and yield what is printed."""
    printed = io.BytesIO()
    with (
        io.TextIOWrapper(printed, encoding="latin-1", write_through=True) as stream,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdout", stream)
        escape_what_cannot_be_printed()
        yield printed


def test_characters_that_cannot_be_encoded_are_escaped() -> None:
    with latin_1_output() as printed:
        echo(TEXT)
        assert printed.getvalue().decode("latin-1") == "\\u30a8\\u30b8\\u30d7\\u30c8 \\U0001f600 é\n"


def test_json_stays_json() -> None:
    with latin_1_output() as printed:
        show({"text": TEXT, "score": float("nan")}, "", as_json=True)
        assert json.loads(printed.getvalue()) == {"text": TEXT, "score": None}
        assert printed.getvalue().isascii()


def test_in_unicode_nothing_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    show({"text": TEXT}, "", as_json=True)
    assert capsys.readouterr().out == f'{{"text": "{TEXT}"}}\n'
