"""From a cell to its items, by those who compute it."""

from __future__ import annotations

from ampsweep.errors import Conflict
from ampsweep.folders.hashing import files_hash
from jobs.catalog import Catalog
from jobs.cell import Cell
from jobs.tasks.base import ItemSet
from jobs.tasks.registry import task_for


def load_items(cell: Cell, catalog: Catalog) -> ItemSet:
    """Return the items of a cell.

    Raises Conflict where the data or the task is not the one the cell was planned for: its id would lie.
    """
    ref = cell.task
    task = task_for(ref.name)
    if task.version != ref.version:
        raise Conflict(f"cell {cell.id} is for version {ref.version} of {ref.name}, here is {task.version}; plan anew")
    folder = catalog.data_set(ref.data or task.default_data)
    if files_hash(task.files(folder, ref.split, ref.data_language)) != ref.data_hash:
        raise Conflict(f"the data of {ref.name} has changed since cell {cell.id} was planned; submit the sweep again")
    return task.items(folder, ref, seed=cell.seed)
