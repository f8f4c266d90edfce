from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from worker.resources import control_groups, processors
from worker.resources.processors import available_processors, engine_threads


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the control group of a process that may use eight processors."""
    monkeypatch.setattr(control_groups, "CGROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OWN_GROUPS", tmp_path / "none")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return tmp_path


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "350000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "3200000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_affinity_and_quotas_limit_the_processors(group: Path, files: Mapping[str, str], count: int) -> None:
    for name, content in files.items():
        (group / name).parent.mkdir(exist_ok=True)
        (group / name).write_text(content)
    assert available_processors() == count


@pytest.mark.parametrize(
    ("variable", "engines", "threads"),
    [(None, 1, 8), (None, 3, 2), (None, 9, 1), ("5", 3, 5), ("1", 1, 1), ("0", 1, 8), ("", 2, 4), ("4,2", 2, 4)],
)
def test_engines_share_the_processors_unless_the_user_sets_their_threads(
    variable: str | None, engines: int, threads: int
) -> None:
    environment = {} if variable is None else {processors.THREADS: variable}
    assert engine_threads(8, engines, environment) == threads
