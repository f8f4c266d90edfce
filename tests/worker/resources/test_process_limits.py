from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from worker.resources import control_groups
from worker.resources.process_limits import process_limit


@pytest.fixture(autouse=True)
def limited_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with 500 processes, in a folder of control groups without limits."""
    monkeypatch.setattr(control_groups, "CGROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OWN_GROUPS", tmp_path / "none")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (500, 1000))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_the_limit_of_the_user_counts_except_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = process_limit()
    assert limit is not None
    assert (limit.most, "ulimit -u" in limit.remedy) == (500, True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert process_limit() is None
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert process_limit() is None


@pytest.mark.parametrize("folder", [".", "pids"])
def test_the_smallest_limit_counts(tmp_path: Path, folder: str) -> None:
    """Version 1 has a hierarchy of its own for processes."""
    file = tmp_path / folder / "pids.max"
    file.parent.mkdir(exist_ok=True)
    for content, most in (("max", 500), ("600", 500), ("100", 100)):
        file.write_text(f"{content}\n")
        limit = process_limit()
        assert limit is not None
        assert (limit.most, "container" in limit.remedy) == (most, most == 100)
