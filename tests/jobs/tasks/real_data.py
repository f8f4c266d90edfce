"""The folders with published data; tests that need them are skipped if they do not exist."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.cell import TaskRef
from jobs.tasks.base import ItemSet, Task

DATA = Path(os.environ.get("AMPSWEEP_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))


def needs(name: str) -> pytest.MarkDecorator:
    reason = f"the {name} files are not here; AMPSWEEP_TEST_DATA names their folder"
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=reason)


def reference(
    task: Task, language: str, *, limit: int | None = None, split: str | None = None, data: str | None = None
) -> TaskRef:
    """Return a reference to a task without a target language, as it is before its data is resolved."""
    return TaskRef(
        name=task.name,
        version=task.version,
        data_language=language,
        target_language=None,
        limit=limit,
        split=split,
        data=data,
        data_hash="",
    )


def items(
    task: Task, folder: Path, language: str, *, limit: int | None = None, split: str | None = None, seed: int = 0
) -> ItemSet:
    return task.items(folder, reference(task, language, limit=limit, split=split), seed=seed)
