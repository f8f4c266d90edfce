from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from jobs.batches.files import BatchFiles
from jobs.batches.retention import clean_up_batches
from jobs.storage.local import LocalStorage
from jobs.store.sql.batches import Batches
from tests.jobs.cluster import ManualClock, quick_sql_store
from tests.jobs.store.sql.test_batches import created, leased, uploaded


@pytest.fixture
def batches(tmp_path: Path, clock: ManualClock) -> Iterator[Batches]:
    store = quick_sql_store(tmp_path / "db", clock)
    yield store.batches
    store.close()


def test_what_no_batch_needs_is_deleted(batches: Batches, tmp_path: Path, clock: ManualClock) -> None:
    files = BatchFiles(LocalStorage(tmp_path / "files"))
    short, kept, orphan = uploaded(batches, expires_after=10.0), uploaded(batches), "file_orphan"
    for file_id in (short, kept, orphan):
        files.save(file_id, BytesIO(b"{}"))
    running = created(batches)
    ended = created(batches)
    batches.fail(leased(batches), "why")
    for batch in (running, ended):
        files.save_part(batch.id, 0, [])
    published = files.stored(orphan).stat().modified
    clock.time += 10
    assert clean_up_batches(batches, files, now=published, unfinished_after=60.0) == 1
    assert files.ids() == sorted([kept, orphan])
    assert files.batch_ids() == {ended.id}  # the older of the two was leased, and failed
    assert clean_up_batches(batches, files, now=published + 60, unfinished_after=60.0) == 1
    assert files.ids() == [kept]
    assert clean_up_batches(batches, files, now=published, unfinished_after=60.0, created_before=1001.0) >= 1
    assert files.ids() == []
    assert [record.id for record in batches.list().data] == [ended.id]
