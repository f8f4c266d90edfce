"""The tasks by name: the built-in ones, those of plug-ins, and those of lm-eval.

In the mode `paper` a task reproduces the published code, including its mistakes.
"""

from __future__ import annotations

from collections.abc import Callable

from ampsweep.errors import UnknownName
from jobs.cell import TaskRef
from jobs.metrics.registry import PluginMetric
from jobs.plugins import Plugin, find_plugin, installed_plugins
from jobs.tasks.base import Task
from jobs.tasks.built_in.clas import Clas
from jobs.tasks.built_in.flores import Flores
from jobs.tasks.built_in.generation import Generation
from jobs.tasks.built_in.include import Include
from jobs.tasks.built_in.language_confusion import LanguageConfusion
from jobs.tasks.built_in.lss import Lss
from jobs.tasks.built_in.perplexity import Perplexity
from jobs.tasks.built_in.xcopa import Xcopa
from jobs.tasks.built_in.xwinograd import Xwinograd
from jobs.tasks.lm_eval.task import PREFIX, LmEval

BUILT_IN_TASKS: dict[str, Callable[[bool], Task]] = {
    "lss": lambda paper: Lss(paper=paper),
    "xcopa": lambda paper: Xcopa(paper=paper),
    "xwinograd": lambda _: Xwinograd(),
    "include": lambda _: Include(),
    "perplexity": lambda paper: Perplexity(paper=paper),
    "flores": lambda paper: Flores(targeted=True, paper=paper),
    "flores_untargeted": lambda paper: Flores(targeted=False, paper=paper),
    "generation": lambda _: Generation(),
    "language_confusion": lambda _: LanguageConfusion(),
    "clas": lambda _: Clas(),
}
_MEMBERS = tuple(name for name in vars(Task) if not name.startswith("_"))


def task_for(name: str, *, mode: str = "corrected", param: str | None = None) -> Task:
    """Return a task by its name.

    Args:
        name: The name of a built-in task or of a plug-in's task, or `lm_eval:NAME`.
        mode: `corrected` or `paper`.
        param: The field of the request that an error names.

    Raises:
        UnknownName: There is no such task; the message lists the tasks.
        InvalidRequest: The plug-in cannot be used, or several distributions define the name.
    """
    if name.startswith(PREFIX):
        return LmEval(name)
    plugin = find_plugin("task", name, built_in=BUILT_IN_TASKS, param=param)
    if plugin is not None:
        return _load(plugin, param)
    if name not in BUILT_IN_TASKS:
        raise UnknownName("task", name, [*BUILT_IN_TASKS, *installed_plugins("task"), f"{PREFIX}NAME"], param=param)
    return BUILT_IN_TASKS[name](mode == "paper")


def task_of(ref: TaskRef, *, steered: bool = True) -> Task:
    """Return the task of a reference.

    The published code gives the baseline of `flores_untargeted` the prompt of `flores`, which names the language.
    """
    if ref.name.startswith(PREFIX):
        return LmEval(ref.name, measures=ref.measures)
    if ref.name == "flores_untargeted" and ref.mode == "paper" and not steered:
        return Flores(targeted=True, paper=True)
    return task_for(ref.name, mode=ref.mode)


def releases_of(task: Task) -> tuple[str, ...]:
    """Return the plug-ins that a task and its metrics come from, each as `distribution==version`; none if built-in."""
    plugin = None if task.name.startswith(PREFIX) else find_plugin("task", task.name, built_in=BUILT_IN_TASKS)
    metrics = [metric.plugin for metric in task.metrics if isinstance(metric, PluginMetric)]
    return tuple(sorted({source.release for source in [plugin, *metrics] if source is not None}))


def _load(plugin: Plugin, param: str | None) -> Task:
    task = plugin.create(param=param)
    if missing := [member for member in _MEMBERS if not hasattr(task, member)]:
        cause = f"it has no {', '.join(missing)}, which every task has (jobs/tasks/base.py)"
        raise plugin.broken(cause, param=param)
    if task.name != plugin.name:
        cause = f"its task is named {task.name!r}; it must be named as the entry point"
        raise plugin.broken(cause, param=param)
    created: Task = task
    return created
