"""From a cell to its items, by those who compute it."""

from __future__ import annotations

import re
from dataclasses import replace

from ampsweep.domain.prompt import ChatMessage
from ampsweep.errors import Conflict
from jobs.cell import Cell, TaskRef
from jobs.planning.catalog import Catalog
from jobs.tasks.base import Item, ItemSet, Task
from jobs.tasks.lm_eval.task import PREFIX
from jobs.tasks.registry import releases_of, task_of
from jobs.tasks.requests import Call, ScoreCall

_HALF = re.compile("[\ud800-\udfff]")


def load_items(cell: Cell, catalog: Catalog) -> ItemSet:
    """Return the items of a cell.

    Raises Conflict where the data or the task is not the one the cell was planned for: its id would lie.
    """
    ref, task = cell.task, task_of_cell(cell)
    if task.version != ref.version:
        raise Conflict(f"cell {cell.id} is for version {ref.version} of {ref.name}, here is {task.version}; plan anew")
    if (releases := releases_of(task)) != ref.plugins:
        planned, installed = (" and ".join(names) or "no plug-in" for names in (ref.plugins, releases))
        raise Conflict(f"cell {cell.id} is planned for {planned}, here is {installed}; submit the sweep again")
    folder = catalog.data_set(ref.data or task.default_data)
    if task.resolve(folder, ref) != ref:
        raise Conflict(f"the data of {ref.name} has changed since cell {cell.id} was planned; submit the sweep again")
    found = task.items(folder, ref, seed=cell.seed)
    return replace(found, items=tuple(complete(_checked(item), ref) for item in found.items))


def complete(item: Item, ref: TaskRef) -> Item:
    """Return an item whose calls say all that an engine needs: the chat, and how a text is divided to be scored.

    The mode `paper` divides as lm-eval does. Else each scored call knows the item's others, so that all are scored
    from the same token border.
    """
    calls = item.calls
    if ref.chat and not ref.name.startswith(PREFIX):  # whose prompts lm-eval itself puts into chats
        calls = tuple(map(_in_a_chat, calls))
    if ref.mode == "paper":
        calls = tuple(replace(call, split="lm_eval") if isinstance(call, ScoreCall) else call for call in calls)
    elif sum(isinstance(call, ScoreCall) for call in calls) > 1:
        texts = tuple((call.context, call.continuation) for call in calls if isinstance(call, ScoreCall))
        calls = tuple(replace(call, options=texts) if isinstance(call, ScoreCall) else call for call in calls)
    return replace(item, calls=calls)


def task_of_cell(cell: Cell) -> Task:
    """Return the task that makes a cell's items and scores its answers."""
    return task_of(cell.task, steered=cell.intervention is not None)


def _checked(item: Item) -> Item:
    """Return an item that can be asked, scored and stored; one with half a character in it (a lone surrogate) fails.

    JSON can write such a half, UTF-8 cannot; it is what is left of an emoji that was cut in two.
    """
    asked = (text for call in item.calls for text in _texts(call))
    texts = [item.doc_id, *asked, *(value for value in item.meta.values() if isinstance(value, str))]
    half = next((match for text in texts if (match := _HALF.search(text))), None)
    if half is None:
        return item
    around = _written_out(half.string[max(half.start() - 20, 0) : half.end() + 20])
    error = f"the data has half a character (a lone surrogate), which no model reads: {around}"
    return replace(item, doc_id=_written_out(item.doc_id), calls=(), error=error)


def _texts(call: Call) -> list[str]:
    prompt, more = (call.context, [call.continuation]) if isinstance(call, ScoreCall) else (call.prompt, [*call.stop])
    return [*([prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]), *more]


def _written_out(text: str) -> str:
    """Return a text with its lone surrogates as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _in_a_chat(call: Call) -> Call:
    """Return a call whose text is the user's turn, and what is scored the answer, without the space before it."""
    if isinstance(call, ScoreCall):
        if not isinstance(call.context, str):
            return call
        return replace(call, context=_turn(call.context), continuation=call.continuation.lstrip())
    return replace(call, prompt=_turn(call.prompt)) if isinstance(call.prompt, str) else call


def _turn(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", content=text),)
