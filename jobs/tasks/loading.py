"""From a cell to its items, by those who compute it."""

from __future__ import annotations

from dataclasses import replace

from ampsweep.errors import Conflict
from jobs.catalog import Catalog
from jobs.cell import Cell
from jobs.ports import Turn
from jobs.requests import Call, ScoreCall
from jobs.tasks.base import ItemSet, Task
from jobs.tasks.harness.task import PREFIX
from jobs.tasks.registry import task_of


def load_items(cell: Cell, catalog: Catalog) -> ItemSet:
    """Return the items of a cell.

    Raises Conflict where the data or the task is not the one the cell was planned for: its id would lie.
    """
    ref, task = cell.task, task_of_cell(cell)
    if task.version != ref.version:
        raise Conflict(f"cell {cell.id} is for version {ref.version} of {ref.name}, here is {task.version}; plan anew")
    folder = catalog.data_set(ref.data or task.default_data)
    if task.settle(folder, ref) != ref:
        raise Conflict(f"the data of {ref.name} has changed since cell {cell.id} was planned; submit the sweep again")
    found = task.items(folder, ref, seed=cell.seed)
    if not ref.chat or ref.name.startswith(PREFIX):  # whose prompts lm-eval itself puts into chats
        return found
    items = (replace(item, calls=tuple(map(_in_a_chat, item.calls))) for item in found.items)
    return replace(found, items=tuple(items))


def task_of_cell(cell: Cell) -> Task:
    """Return the task that makes a cell's items and scores its answers."""
    return task_of(cell.task, steered=cell.intervention is not None)


def _in_a_chat(call: Call) -> Call:
    """Return a call whose text is the user's turn, and what is scored the answer, without the space before it."""
    if isinstance(call, ScoreCall):
        if not isinstance(call.context, str):
            return call
        return replace(call, context=_turn(call.context), continuation=call.continuation.lstrip())
    return replace(call, prompt=_turn(call.prompt)) if isinstance(call.prompt, str) else call


def _turn(text: str) -> tuple[Turn, ...]:
    return (Turn(role="user", content=text),)
