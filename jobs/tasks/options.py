"""Options of a task in a spec, as a label that distinguishes cells of the same task."""

from __future__ import annotations

from functools import lru_cache

from jobs.cell import TaskRef
from jobs.tasks.registry import task_of


@lru_cache(maxsize=1024)
def task_options(ref: TaskRef) -> str | None:
    """Return the options that differ from the task's defaults: data set, split, sampling, chat template, its variables.

    The number of items is not an option: it is `n` in the summary.

    Returns:
        The options in the order of their names, as in `chat=true, n=5, temperature=0.3`; None if there are none.
    """
    task = task_of(ref)
    options: dict[str, object] = {
        name: value if isinstance(value, int) else f"{value:g}" for name, value in ref.sampling
    }
    if ref.chat:
        options["chat"] = "true"
    options.update(ref.chat_template_kwargs)
    if ref.data not in (None, task.default_data):
        options["data"] = ref.data
    if ref.split not in (None, task.default_split):
        options["split"] = ref.split
    return ", ".join(f"{name}={value}" for name, value in sorted(options.items())) or None
