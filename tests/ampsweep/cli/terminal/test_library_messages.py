from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampsweep.cli.terminal.library_messages import user_logs


def test_logs_are_in_the_cache_of_a_user_and_nowhere_for_one_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert user_logs() == Path("/cache/ampsweep/logs")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert user_logs() == Path("/home/ada/.cache/ampsweep/logs")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert user_logs() is None
