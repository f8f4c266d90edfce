"""Checks that the answers of a sweep have a running text on which its interventions may depend."""

from __future__ import annotations

from dataclasses import replace

from ampsweep.errors import InvalidRequest
from jobs.language_control.identifiers import open_identifier, require_languages
from jobs.planning.catalog import Catalog
from jobs.planning.resolution import ResolvedSweep
from jobs.spec.sweep import SweepSpec
from jobs.tasks.registry import task_of
from jobs.tasks.requests import ScoreCall


def require_running_text(spec: SweepSpec, resolved: ResolvedSweep, catalog: Catalog) -> str | None:
    """Check that all tasks generate their answers, and, for `when`, that the language of these can be identified.

    Whether a task generates is seen from its first item.

    Returns:
        The identity of the language identifier; None without `when`.

    Raises:
        InvalidRequest: A task scores given texts, the language identifier is not installed, or it does not know a
            target language (param "interventions.when" or "interventions.part").
    """
    name = spec.interventions.running_text
    for index, task_spec in enumerate(spec.tasks):
        ref = resolved.tasks[spec.mode[0]][index].refs[0]
        task = task_of(ref)
        folder = catalog.data_set(ref.data or task.default_data)
        items = task.items(folder, replace(ref, limit=1), seed=spec.seed).items
        if any(isinstance(call, ScoreCall) for item in items for call in item.calls):
            message = f"task {task_spec.name} (tasks.{index}) scores given texts, so there is no running text"
            raise InvalidRequest(f"{message}; leave {name} out, or the task", param=f"interventions.{name}")
    if name != "when":
        return None
    targets = {target for task in resolved.tasks[spec.mode[0]] for target in task.targets}
    try:
        identifier = open_identifier()
        require_languages(identifier, targets)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param="interventions.when") from error
    return identifier.identity
