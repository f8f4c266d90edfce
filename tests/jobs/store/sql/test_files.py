from __future__ import annotations

import pytest

from ampsweep.errors import Conflict, NotFound
from jobs.store.sql.files import Files
from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import ManualClock
from tests.jobs.store.sql.test_batches import created, leased, uploaded


@pytest.fixture
def files(sql_store: SqlStore) -> Files:
    return sql_store.batches.files


def test_files_are_listed_newest_first_and_by_purpose(sql_store: SqlStore, files: Files) -> None:
    first, second = uploaded(sql_store.batches), uploaded(sql_store.batches, purpose="batch_output")
    third = uploaded(sql_store.batches, expires_after=3600.0)
    assert files.get(third).expires_at == 4600.0
    page = files.list(limit=2)
    assert ([record.id for record in page.data], page.has_more) == ([third, second], True)
    assert [record.id for record in files.list(after=second).data] == [first]
    assert [record.id for record in files.list(purpose="batch").data] == [third, first]
    assert files.known() == {first, second, third}


def test_a_file_that_a_batch_reads_is_not_deleted(sql_store: SqlStore, files: Files) -> None:
    batch = created(sql_store.batches)
    with pytest.raises(Conflict, match=f"batch {batch.id} reads the file"):
        files.delete(batch.input_file_id)
    sql_store.batches.fail(leased(sql_store.batches), "why")
    files.delete(batch.input_file_id)
    with pytest.raises(NotFound):
        files.get(batch.input_file_id)


def test_files_expire_by_their_own_time_and_by_age_but_not_while_they_are_read(
    sql_store: SqlStore, files: Files, clock: ManualClock
) -> None:
    read = created(sql_store.batches, input_file_id=uploaded(sql_store.batches, expires_after=10.0)).input_file_id
    short, kept = uploaded(sql_store.batches, expires_after=10.0), uploaded(sql_store.batches)
    assert files.delete_expired(created_before=None) == []
    clock.time += 10
    assert files.delete_expired(created_before=None) == [short]
    assert files.delete_expired(created_before=1000.5) == [kept]
    assert files.known() == {read}
