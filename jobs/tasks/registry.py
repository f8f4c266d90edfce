"""The tasks there are, by name. Where published code is wrong, a task of the mode `paper` repeats it."""

from __future__ import annotations

from collections.abc import Callable

from ampsweep.errors import UnknownName
from jobs.cell import TaskRef
from jobs.tasks.base import Task
from jobs.tasks.flores import Flores
from jobs.tasks.generation import Generation
from jobs.tasks.include import Include
from jobs.tasks.lm_eval.task import PREFIX, LmEval
from jobs.tasks.lss import Lss
from jobs.tasks.perplexity import Perplexity
from jobs.tasks.xcopa import Xcopa
from jobs.tasks.xwinograd import Xwinograd

_TASKS: dict[str, Callable[[bool], Task]] = {
    "lss": lambda paper: Lss(paper=paper),
    "xcopa": lambda paper: Xcopa(paper=paper),
    "xwinograd": lambda _: Xwinograd(),
    "include": lambda _: Include(),
    "perplexity": lambda paper: Perplexity(paper=paper),
    "flores": lambda paper: Flores(targeted=True, paper=paper),
    "flores_untargeted": lambda paper: Flores(targeted=False, paper=paper),
    "generation": lambda _: Generation(),
}


def task_for(name: str, *, mode: str = "corrected", param: str | None = None) -> Task:
    """Return a task; UnknownName lists those there are."""
    if name.startswith(PREFIX):
        return LmEval(name)
    if name not in _TASKS:
        raise UnknownName("task", name, [*_TASKS, f"{PREFIX}NAME"], param=param)
    return _TASKS[name](mode == "paper")


def task_of(ref: TaskRef, *, steered: bool = True) -> Task:
    """Return the task that a reference means; published baselines of `flores_untargeted` are told the language."""
    if ref.name.startswith(PREFIX):
        return LmEval(ref.name, measures=ref.measures)
    if ref.name == "flores_untargeted" and ref.mode == "paper" and not steered:
        return Flores(targeted=True, paper=True)
    return task_for(ref.name, mode=ref.mode)
