"""The tasks there are, by name."""

from __future__ import annotations

from ampsweep.errors import UnknownName
from jobs.tasks.base import Task
from jobs.tasks.flores import Flores
from jobs.tasks.include import Include
from jobs.tasks.lss import Lss
from jobs.tasks.perplexity import Perplexity
from jobs.tasks.xcopa import Xcopa
from jobs.tasks.xwinograd import Xwinograd

_ALL: tuple[Task, ...] = (
    Lss(),
    Xcopa(),
    Xwinograd(),
    Include(),
    Perplexity(),
    Flores(targeted=True),
    Flores(targeted=False),
)
_TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def task_for(name: str, *, param: str | None = None) -> Task:
    """Return a task; UnknownName lists those there are."""
    if name not in _TASKS:
        raise UnknownName("task", name, _TASKS, param=param)
    return _TASKS[name]
