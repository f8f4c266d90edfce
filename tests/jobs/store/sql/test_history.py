"""What the store knows of earlier cells: which need not be computed again, and how fast sweeps were."""

from __future__ import annotations

import pytest

from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import ManualClock, a_cell, completed
from tests.jobs.store.calls import ALL_FAILED, FILE, HALF_FAILED, finish, lease, send

SPEC = {"tasks": [{"name": "lss"}]}
ENGINE = {"engine": "fake", "dtype": "float32"}


@pytest.fixture
def store(sql_store: SqlStore) -> SqlStore:
    return sql_store


def swept(store: SqlStore, clock: ManualClock, *, seconds: float, cells: int = 3, start: int = 0) -> None:
    """Run a sweep of which a cell with two samples is completed every `seconds`, 100 s after it was submitted."""
    planned = [a_cell(number) for number in range(start, start + cells)]
    sweep = store.create_sweep(name="n", spec=SPEC, cells=planned)
    clock.time += 100
    for held in lease(store, cells, ttl=1e6):
        clock.time += seconds
        assert store.report([completed(held, FILE)]) == []
    finish(store, sweep.id)


def test_cells_with_answers_are_not_computed_again(store: SqlStore) -> None:
    send(store, 4)
    cells = [a_cell(number).id for number in range(5)]
    held = {each.cell.id: each for each in lease(store, 3)}
    files = dict(zip(cells, (FILE, HALF_FAILED, ALL_FAILED), strict=False))
    reports = [completed(held[cell_id], files[cell_id]) for cell_id in cells[:3]]
    assert store.report(reports) == []
    assert store.history.completed(cells) == set(cells[:2]), "not those that failed, are pending or are unknown"


def test_the_rate_is_that_between_the_first_and_the_last_cell(store: SqlStore, clock: ManualClock) -> None:
    assert store.history.rate("tiny", tasks={"lss"}, **ENGINE) is None
    swept(store, clock, seconds=4.0)
    rate = store.history.rate("tiny", tasks={"lss", "xcopa"}, **ENGINE)
    assert rate is not None
    assert (rate.items, rate.seconds, rate.sweeps) == (4, 8.0, 1)
    swept(store, clock, seconds=1.0, cells=2, start=10)
    rate = store.history.rate("tiny", tasks={"lss"}, **ENGINE)
    assert rate is not None
    assert (rate.items, rate.seconds, rate.sweeps) == (6, 9.0, 2)
    assert rate.items_per_second == pytest.approx(6 / 9)


def test_other_models_tasks_and_engines_say_nothing(store: SqlStore, clock: ManualClock) -> None:
    swept(store, clock, seconds=4.0)
    assert store.history.rate("big", tasks={"lss"}, **ENGINE) is None
    assert store.history.rate("tiny", tasks={"xcopa"}, **ENGINE) is None
    assert store.history.rate("tiny", tasks={"lss"}, engine="vllm", dtype="float32") is None
    assert store.history.rate("tiny", tasks={"lss"}, engine="fake", dtype="bfloat16") is None


def test_a_sweep_of_one_cell_has_no_rate(store: SqlStore, clock: ManualClock) -> None:
    swept(store, clock, seconds=4.0, cells=1)
    assert store.history.rate("tiny", tasks={"lss"}, **ENGINE) is None
