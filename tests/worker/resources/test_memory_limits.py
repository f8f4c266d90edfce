from __future__ import annotations

from pathlib import Path

import pytest

from worker.resources import control_groups
from worker.resources.memory_limits import MemoryLimit, group_limits, page_cache


@pytest.fixture(autouse=True)
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of control groups without limits."""
    own = tmp_path / "self"
    own.write_text("")
    monkeypatch.setattr(control_groups, "CGROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OWN_GROUPS", own)
    return tmp_path


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_a_container_of_version_2_has_its_limit_at_the_root(groups: Path) -> None:
    assert list(group_limits()) == []
    write(groups, memory__max="max", memory__current=10)
    assert list(group_limits()) == []
    write(groups, memory__max=1000, memory__current=700, memory__stat="anon 5\nactive_file 100\ninactive_file 50")
    assert list(group_limits()) == [MemoryLimit(total=1000, free=450)]


def test_every_group_that_a_process_is_nested_in_counts(groups: Path) -> None:
    (groups / "self").write_text("0::/user.slice/job_1\n")
    write(groups / "user.slice", memory__max=1000, memory__current=700)
    write(groups / "user.slice" / "job_1", memory__max=500, memory__current=100)
    limits = list(group_limits())
    assert (min(limit.total for limit in limits), min(limit.free for limit in limits)) == (500, 300)


def test_version_1_has_a_hierarchy_for_memory_alone(groups: Path) -> None:
    (groups / "self").write_text("5:cpu:/elsewhere\n4:memory:/slurm/job_1\n0::/\n")
    memory = groups / "memory"
    write(memory, memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=10**12)
    write(memory / "slurm" / "job_1", memory__limit_in_bytes=800, memory__usage_in_bytes=600)
    stat = "inactive_file 1\ntotal_active_file 20\ntotal_inactive_file 30"
    write(memory / "slurm" / "job_1", memory__stat=stat)
    assert list(group_limits()) == [MemoryLimit(total=800, free=250)]


def test_a_groups_page_cache_is_not_memory_in_use() -> None:
    assert page_cache("anon 100\nfile 40\nactive_file 10\ninactive_file 25\nshmem 5\n") == 35
