from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ampsweep.errors import Conflict
from jobs.catalog import Catalog
from jobs.cell import Cell
from jobs.neuron_sets import NeuronSets
from jobs.plan import plan
from jobs.spec import parse_spec
from jobs.tasks.loading import load_items
from tests.jobs.world import raw_spec


@pytest.fixture
def cell(catalog: Catalog) -> Cell:
    spec = parse_spec(raw_spec(tasks=[{"name": "lss", "languages": ["en"], "limit": 5}]))
    return plan(spec, catalog, NeuronSets(Path("nowhere")))[0]


def test_a_planned_cell_finds_its_items(cell: Cell, catalog: Catalog) -> None:
    found = load_items(cell, catalog)
    assert len(found.items) + found.left_out == 5
    assert load_items(cell, catalog) == found


def test_data_that_changed_since_planning_is_refused(cell: Cell, catalog: Catalog) -> None:
    assert catalog.atlas is not None
    with (catalog.atlas / "templates.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(Conflict, match="has changed since"):
        load_items(cell, catalog)


def test_a_cell_of_another_version_of_its_task_is_refused(cell: Cell, catalog: Catalog) -> None:
    with pytest.raises(Conflict, match="version 99"):
        load_items(replace(cell, task=replace(cell.task, version=99)), catalog)
