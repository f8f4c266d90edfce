"""Loads the items of a cell for the worker that computes it."""

from __future__ import annotations

import re
from dataclasses import replace

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.errors import Conflict
from jobs.cell import Cell, TaskRef
from jobs.instruction import Instruction
from jobs.planning.catalog import Catalog
from jobs.tasks.base import Item, ItemSet, Task
from jobs.tasks.lm_eval.task import PREFIX
from jobs.tasks.registry import releases_of, task_of
from jobs.tasks.requests import Call, ScoreCall

_SURROGATE = re.compile("[\ud800-\udfff]")


def load_items(cell: Cell, catalog: Catalog) -> ItemSet:
    """Return the items of a cell.

    Raises:
        Conflict: The data or the task has changed since the cell was planned, so its id would be wrong.
    """
    ref, task = cell.task, task_of_cell(cell)
    if task.version != ref.version:
        raise Conflict(
            f"cell {cell.id} is planned for version {ref.version} of {ref.name}, this server has version "
            f"{task.version}; submit the sweep again"
        )
    if (releases := releases_of(task)) != ref.plugins:
        planned, installed = (" and ".join(names) or "no plug-in" for names in (ref.plugins, releases))
        raise Conflict(f"cell {cell.id} is planned for {planned}, this server has {installed}; submit the sweep again")
    folder = catalog.data_set(ref.data or task.default_data)
    if task.resolve(folder, ref) != ref:
        raise Conflict(f"the data of {ref.name} has changed since cell {cell.id} was planned; submit the sweep again")
    item_set = task.items(folder, ref, seed=cell.seed)
    items = tuple(complete(_checked(item), ref, cell.instruction) for item in item_set.items)
    return replace(item_set, items=items)


def complete(item: Item, ref: TaskRef, instruction: Instruction | None = None) -> Item:
    """Complete the calls of an item with what the task leaves out: instruction, chat, and where scoring starts.

    Every prompt begins with the instruction, if there is one. In the mode `paper` scoring starts where lm-eval starts
    it. Otherwise each score call gets the texts of all of the item's score calls, so that all are scored from the same
    token border.
    """
    calls = item.calls if instruction is None else tuple(_instructed(call, instruction) for call in item.calls)
    if ref.chat and not ref.name.startswith(PREFIX):  # lm-eval makes the chats of its own tasks
        calls = tuple(map(_as_chat, calls))
    if ref.mode == "paper":
        calls = tuple(replace(call, split="lm_eval") if isinstance(call, ScoreCall) else call for call in calls)
    elif sum(isinstance(call, ScoreCall) for call in calls) > 1:
        texts = tuple((call.context, call.continuation) for call in calls if isinstance(call, ScoreCall))
        calls = tuple(replace(call, options=texts) if isinstance(call, ScoreCall) else call for call in calls)
    return replace(item, calls=calls)


def task_of_cell(cell: Cell) -> Task:
    """Return the task that makes a cell's items and scores its answers."""
    return task_of(cell.task, steered=cell.method not in (None, "repeat"))


def _checked(item: Item) -> Item:
    """Return an item unchanged, or a failed one if its text has a lone surrogate, half of a character.

    JSON can contain lone surrogates, for example where an emoji was cut in two; UTF-8 cannot.
    """
    call_texts = (text for call in item.calls for text in _texts(call))
    texts = [item.doc_id, *call_texts, *(value for value in item.meta.values() if isinstance(value, str))]
    surrogate = next((match for text in texts if (match := _SURROGATE.search(text))), None)
    if surrogate is None:
        return item
    excerpt = _escaped(surrogate.string[max(surrogate.start() - 20, 0) : surrogate.end() + 20])
    error = f"the data has half a character (a lone surrogate), which cannot be tokenized: {excerpt}"
    return replace(item, doc_id=_escaped(item.doc_id), calls=(), error=error)


def _texts(call: Call) -> list[str]:
    prompt, others = (call.context, [call.continuation]) if isinstance(call, ScoreCall) else (call.prompt, [*call.stop])
    return [*([prompt] if isinstance(prompt, str) else [message.content for message in prompt]), *others]


def _escaped(text: str) -> str:
    """Return a text with its lone surrogates as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _instructed(call: Call, instruction: Instruction) -> Call:
    """Return a call whose prompt, or whose context if it is scored, begins with an instruction."""
    if isinstance(call, ScoreCall):
        return replace(call, context=instruction.before(call.context))
    return replace(call, prompt=instruction.before(call.prompt))


def _as_chat(call: Call) -> Call:
    """Return a call whose text is the user's message, and whose continuation is the answer, without leading spaces."""
    if isinstance(call, ScoreCall):
        if not isinstance(call.context, str):
            return call
        return replace(call, context=_user_message(call.context), continuation=call.continuation.lstrip())
    return replace(call, prompt=_user_message(call.prompt)) if isinstance(call.prompt, str) else call


def _user_message(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", content=text),)
