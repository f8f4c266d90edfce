"""Loads a group of lm-eval: its tasks, and how the group aggregates their metrics into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash
from jobs.metrics.lm_eval_group import group_aggregation
from jobs.tasks.lm_eval.loaded_task import LoadedTask, measure_name, prepare, seeded_random
from jobs.tasks.lm_eval.loading_errors import loading_error
from jobs.tasks.lm_eval.members import folders_of, task_manager
from jobs.tasks.lm_eval.names import bundled_folder, code_hash

_LISTED = 5
"""Number of tasks that an error names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedGroup:
    """A group of lm-eval with its tasks, those of its subgroups included.

    Attributes:
        tasks: The tasks by name, in the order of the group.
        measures: The name of each metric that the group aggregates, and how.
        hash: Hash of the tasks' hashes and of the measures.
    """

    tasks: Mapping[str, LoadedTask]
    measures: tuple[tuple[str, str], ...]
    hash: str


def load_group(name: str, folder: Path, *, limit: int | None, chat: bool) -> LoadedGroup:
    """Load the tasks of a group and build the requests of the first `limit` documents of each.

    Args:
        name: The group's name in lm-eval.
        folder: The server's folder of tasks.
        limit: Number of documents of each task; None for all.
        chat: Whether to ask in the form of a chat.

    Raises:
        UnknownName: There is no such group.
        InvalidRequest: A task of the group cannot be loaded or is not supported, the group aggregates no metric, or
            its tasks do not share the metric.
        DataUnavailable: The Hub cannot be reached.
    """
    folders = folders_of(name, folder)
    own = [path for path in folders if not path.is_relative_to(bundled_folder())]
    return _load_cached(name, folders, code_hash(own) if own else "", limit, chat)


@lru_cache(maxsize=16)
def _load_cached(name: str, folders: tuple[Path, ...], files: str, limit: int | None, chat: bool) -> LoadedGroup:
    tasks: dict[str, LoadedTask] = {}
    with seeded_random():
        group = _load(name, folders)
        for task in group.get_all_tasks():
            if task.config.task in tasks:
                raise InvalidRequest(f"the group {name} has the task {task.config.task} twice", param="name")
            tasks[task.config.task] = prepare(task, files, limit=limit, chat=chat)
    measures = tuple(_measures(group, tasks))
    if not measures:
        raise InvalidRequest(
            f"the group {name} aggregates no metric (aggregate_metric_list); name its tasks: {_listed(list(tasks))}",
            param="name",
        )
    content = {"tasks": {task: loaded.hash for task, loaded in tasks.items()}, "measures": measures}
    return LoadedGroup(tasks=tasks, measures=measures, hash=content_hash(content, length=64))


def _load(name: str, folders: Sequence[Path]) -> Any:
    try:
        return task_manager(folders).load(name)["groups"][name]
    except Exception as error:  # templates, functions and data of a task can raise anything
        raise loading_error(name, error) from error


def _measures(group: Any, tasks: Mapping[str, LoadedTask]) -> Iterator[tuple[str, str]]:
    """Yield each metric that the group aggregates, with its weighting and the aggregation of the tasks."""
    for config in group.aggregate_metric_list or ():
        if callable(config.aggregation):
            message = (
                f"the group {group.name} aggregates {config.metric} by a function of its own; lm-eval supports mean"
            )
            raise InvalidRequest(message, param="name")
        pipelines = _pipelines(config.metric, tasks) if config.filter_list is None else config.filter_list
        for measure in [measure_name(config.metric, pipeline) for pipeline in pipelines] or [config.metric]:
            aggregation = _shared_aggregation(group.name, measure, tasks)
            yield measure, group_aggregation(aggregation, by_size=config.weight_by_size)


def _pipelines(metric: str, tasks: Mapping[str, LoadedTask]) -> list[str]:
    """Return the pipelines of filters whose answers have a metric in any of the tasks, as lm-eval discovers them."""
    return sorted(
        {
            pipeline.name
            for loaded in tasks.values()
            for pipeline in loaded.task._filters  # noqa: SLF001  # lm-eval has no public name for them
            if measure_name(metric, pipeline.name) in dict(loaded.measures)
        }
    )


def _shared_aggregation(group: str, measure: str, tasks: Mapping[str, LoadedTask]) -> str:
    """Return how all tasks of a group aggregate a metric; raise InvalidRequest if they do not agree."""
    without = [task for task, loaded in tasks.items() if measure not in dict(loaded.measures)]
    if without:
        cause = f"which its tasks {_listed(without)} do not report"
    else:
        by_task = {task: dict(loaded.measures)[measure] for task, loaded in tasks.items()}
        (first, *_), aggregations = by_task.items(), set(by_task.values())
        if len(aggregations) == 1 and first[1]:
            return first[1]
        other = next((pair for pair in by_task.items() if pair[1] != first[1]), first)
        described = " and ".join(f"{task} by {name or 'a function of its own'}" for task, name in {first, other})
        cause = f"which its tasks aggregate differently: {described}"
    raise InvalidRequest(f"the group {group} aggregates {measure}, {cause}; name the tasks in the sweep", param="name")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
